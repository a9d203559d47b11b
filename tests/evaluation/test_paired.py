"""Comparisons in pairs, against what is counted by hand, simulated, and printed elsewhere."""

import math

import numpy as np
import pytest
import scipy.stats

from manet_lib.evaluation.paired import compare, false_claim, holm, images_needed, mcnemar_p


@pytest.mark.parametrize(("b", "c"), [(57, 41), (57, 36), (0, 0), (3, 0), (5, 5), (44, 46)])
def test_mcnemar_is_a_coin_thrown_for_each_discordant_image(b: int, c: int) -> None:
    tail = sum(math.comb(b + c, k) for k in range(min(b, c) + 1)) / 2 ** (b + c)
    assert mcnemar_p(b, c) == pytest.approx(min(1.0, 2 * tail))


def test_mcnemar_of_known_counts() -> None:
    assert mcnemar_p(57, 41) == pytest.approx(0.13, abs=0.005)
    assert mcnemar_p(44, 46) == pytest.approx(0.92, abs=0.005)


def test_false_claim_is_the_posterior_below_one_half() -> None:
    share = np.linspace(0, 1, 200_001)
    density = share**57 * (1 - share) ** 41
    assert false_claim(57, 41) == pytest.approx(density[share < 0.5].sum() / density.sum(), abs=1e-4)
    assert false_claim(41, 57) == false_claim(57, 41)
    assert false_claim(0, 0) == 0.5


def test_false_claims_are_as_frequent_as_said() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random(40_000)
    first = rng.binomial(30, truth)
    said = np.array([false_claim(b, 30 - b) for b in range(31)])[first]
    wrong = np.where(first >= 15, truth < 0.5, truth > 0.5)
    for low, high in ((0.0, 0.05), (0.05, 0.2), (0.2, 0.51)):
        chosen = (said >= low) & (said < high)
        assert wrong[chosen].mean() == pytest.approx(said[chosen].mean(), abs=0.01)


def test_a_comparison_counts_images_by_trial() -> None:
    first = np.array([[1, 1, 1, 0, 0, 1], [1, 1, 0, 0, 0, 0]], dtype=bool)
    second = np.array([[1, 0, 0, 0, 1, 0], [1, 1, 0, 0, 1, 1]], dtype=bool)
    found = compare(first, second)
    assert (found.only_first, found.only_second) == ((3, 0), (1, 2))
    assert found.difference == pytest.approx(0)
    assert found.low < 0 < found.high
    assert found.trials_won == 0.5
    assert found.p_values == (mcnemar_p(3, 1), mcnemar_p(0, 2))
    turned = compare(second, first)
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low))


def test_two_copies_of_a_network_do_not_differ_significantly() -> None:
    right = np.random.default_rng(0).random((3, 50)) < 0.7
    found = compare(right, right)
    assert (found.difference, found.low, found.high) == (0, 0, 0)
    assert found.p_values == (1, 1, 1)
    assert found.trials_won == 0.5


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.5]) == pytest.approx([0.04, 0.09, 0.09, 0.5])
    assert holm([]) == []


def test_images_needed_are_enough() -> None:
    images = images_needed(0.05, 0.2)
    rng = np.random.default_rng(0)
    shares = [(0.2 + 0.05) / 2, (0.2 - 0.05) / 2, 0.8]
    p = np.array([mcnemar_p(int(b), int(c)) for b, c, _ in rng.multinomial(images, shares, 2000)])
    assert (p < 0.05).mean() == pytest.approx(0.8, abs=0.04)  # the exact test is a little shy


def test_images_for_the_papers_own_difference() -> None:
    assert images_needed(0.0024, 0.05) == pytest.approx(68_000, rel=0.01)


def test_power_agrees_with_the_normal_formula() -> None:
    z = scipy.stats.norm.ppf([0.975, 0.9]).sum()
    assert images_needed(0.001, 0.1, power=0.9) == pytest.approx(z**2 * 0.1 / 0.001**2, rel=1e-3)
