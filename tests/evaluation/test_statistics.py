from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from scipy.stats import norm

from manet_lib.evaluation.statistics import (
    bootstrap_interval,
    crossed_interval,
    share_interval,
)


def wilson_interval(hits: int, total: int) -> tuple[float, float]:
    found = scipy.stats.binomtest(hits, total).proportion_ci(method="wilson")
    return found.low, found.high


def test_bootstrap_of_a_mean_is_near_the_normal_interval() -> None:
    values = np.random.default_rng(2).normal(0.9, 0.05, 200)
    low, high = bootstrap_interval(values)
    half = norm.ppf(0.975) * values.std() / np.sqrt(200)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.1 * half)


def test_bootstrap_of_a_median_is_near_the_order_statistics() -> None:
    values = np.sort(np.random.default_rng(3).exponential(size=101))
    low, high = bootstrap_interval(values, "median")
    # Binomial(101, 1/2) puts the 2.5% and 97.5% points at the 41st and 61st value.
    assert values[38] <= low <= values[43]
    assert values[57] <= high <= values[62]


def test_bootstrap_is_the_same_every_time() -> None:
    values = np.random.default_rng(4).random(30)
    assert bootstrap_interval(values) == bootstrap_interval(values)


def test_bootstrap_narrows_with_less_confidence() -> None:
    values = np.random.default_rng(5).random(50)
    wide, narrow = bootstrap_interval(values, confidence=0.99), bootstrap_interval(values, confidence=0.5)
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_bootstrap_of_one_or_equal_values() -> None:
    assert bootstrap_interval(np.array([0.7])) == (0.7, 0.7)
    assert bootstrap_interval(np.full(9, 0.25), "median") == (0.25, 0.25)


def crossed(rng: np.random.Generator, trials: int, images: int, of_trial: float, of_image: float) -> np.ndarray:
    """Values of images in trials: mean 0, with an effect of each image, of each trial, and of their pair."""
    return (
        rng.normal(0, of_trial, (trials, 1)) + rng.normal(0, of_image, images) + rng.normal(0, 1, (trials, images))
    )


@pytest.mark.parametrize(
    ("trials", "of_trial"), [(1, 0.0), (2, 0.05), (3, 0.05), (3, 0.2), (5, 0.05), (10, 0.1), (3, 0.0)]
)
def test_crossed_interval_covers_the_mean(trials: int, of_trial: float) -> None:
    rng = np.random.default_rng(0)
    bounds = [crossed_interval(crossed(rng, trials, 150, of_trial, 0.7))[1:] for _ in range(3000)]
    covered = np.mean([low <= 0 <= high for low, high in bounds])
    assert 0.925 <= covered <= 0.985


@pytest.mark.parametrize(("trials", "of_trial"), [(1, 0.0), (3, 0.05)])
def test_crossed_interval_covers_where_patients_have_several_images(trials: int, of_trial: float) -> None:
    rng = np.random.default_rng(0)
    patients = np.repeat(np.arange(90), rng.integers(1, 4, 90))
    inside = {True: 0, False: 0}
    for _ in range(2000):
        values = crossed(rng, trials, len(patients), of_trial, 0.3) + rng.normal(0, 0.7, 90)[patients]
        for known in inside:
            _, low, high = crossed_interval(values, patients.tolist() if known else None)
            inside[known] += low <= 0 <= high
    assert 0.93 <= inside[True] / 2000 <= 0.98
    assert inside[False] / 2000 < inside[True] / 2000 - 0.01  # images of a patient are no new patients


def test_crossed_interval_is_the_analysis_of_variance() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(0, 1, (4, 30)) + rng.normal(0, 0.5, (4, 1)) + rng.normal(0, 2, 30)
    trials, images = values.shape
    rows, columns = values.mean(axis=1), values.mean(axis=0)
    rest = values - rows[:, None] - columns + values.mean()
    squares = images * rows.var(ddof=1), trials * columns.var(ddof=1), (rest**2).sum() / 87
    variance = (squares[0] + squares[1] - squares[2]) / values.size
    freedom = (variance * values.size) ** 2 / sum(
        one**2 / count for one, count in zip(squares, (3, 29, 87), strict=True)
    )
    assert freedom > 3
    half = scipy.stats.t.ppf(0.975, freedom) * np.sqrt(variance)
    np.testing.assert_allclose(crossed_interval(values), values.mean() + np.array([0, -half, half]))


@pytest.mark.parametrize("images", [5, 20, 100])
def test_crossed_interval_stays_as_wide_as_its_trials_allow(images: int) -> None:
    """Of networks that hardly differ, a variance may by chance be estimated below its parts."""
    rng = np.random.default_rng(0)
    for trials in (2, 3):
        for _ in range(500):
            values = rng.choice([-1.0, 0.0, 1.0], (trials, images), p=[0.02, 0.96, 0.02])
            _, low, high = crossed_interval(values)
            widest = scipy.stats.t.ppf(0.975, trials - 1)  # no variance of a mean of such values exceeds 1
            assert np.isfinite([low, high]).all()
            assert high - low <= 2 * widest
    exchanged = np.zeros((2, 100))
    exchanged[:, 0] = 1, -1
    assert crossed_interval(exchanged)[2] < 0.2


def test_crossed_interval_of_one_trial_is_students() -> None:
    values = np.random.default_rng(0).normal(3, 2, (1, 40))
    mean, low, high = crossed_interval(values)
    expected = scipy.stats.t.interval(0.95, 39, loc=values.mean(), scale=scipy.stats.sem(values[0]))
    np.testing.assert_allclose((mean, low, high), (values.mean(), *expected))


def test_the_same_image_in_many_trials_is_one_image() -> None:
    image = np.random.default_rng(0).normal(0, 1, (1, 60))
    once, often = crossed_interval(image), crossed_interval(np.repeat(image, 8, axis=0))
    assert often[2] - often[1] == pytest.approx(once[2] - once[1], rel=0.02)


def test_crossed_interval_without_any_variation() -> None:
    assert crossed_interval(np.full((3, 20), 0.25)) == (0.25, 0.25, 0.25)


@pytest.mark.parametrize(
    "level", [*(pytest.param(one, marks=pytest.mark.exhaustive) for one in (0.5, 1.3)), 2.3]
)  # accuracies of about 0.64, 0.81 and 0.94
@pytest.mark.parametrize(("trials", "of_trial"), [(1, 0.0), (3, 0.0), (3, 0.1), (3, 0.25), (10, 0.1)])
def test_share_interval_covers_the_accuracy(trials: int, of_trial: float, level: float) -> None:
    rng = np.random.default_rng(0)
    images, of_image = 200, 1.0
    truth = scipy.stats.norm.cdf(level / np.sqrt(1 + of_image**2 + of_trial**2))
    covered = []
    for _ in range(1500):
        right = crossed(rng, trials, images, of_trial, of_image) + level > 0
        _, low, high = share_interval(right)
        covered.append(low <= truth <= high)
    assert 0.92 <= np.mean(covered) <= 0.985


@pytest.mark.parametrize("images", [10, 25, 27, 180])
def test_bounds_of_all_and_none_hold_the_share(images: int) -> None:
    for share in (0.0, 1.0):
        mean, low, high = share_interval(np.full((1, images), share))
        assert 0 <= low <= mean <= high <= 1


def test_two_trials_that_differ_widely_cover_less() -> None:
    rng = np.random.default_rng(0)
    truth = scipy.stats.norm.cdf(0.5 / np.sqrt(2 + 0.25**2))
    covered = []
    for _ in range(1500):
        _, low, high = share_interval(crossed(rng, 2, 200, 0.25, 1.0) + 0.5 > 0)
        covered.append(low <= truth <= high)
    assert 0.87 <= np.mean(covered) <= 0.92


def test_share_interval_of_one_trial_is_nearly_wilsons() -> None:
    right = np.zeros((1, 180), bool)
    right[0, :130] = True
    np.testing.assert_allclose(share_interval(right)[1:], wilson_interval(130, 180), atol=0.002)


@pytest.mark.parametrize("hits", [0, 30])
def test_share_interval_of_all_or_none_is_wilsons(hits: int) -> None:
    right = np.arange(30) < hits
    np.testing.assert_allclose(share_interval(np.stack([right] * 2))[1:], wilson_interval(hits, 30))
