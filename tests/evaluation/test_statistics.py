from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from manet_lib.evaluation.statistics import bootstrap_interval, wilson_interval


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.99])
@pytest.mark.parametrize(("hits", "total"), [(0, 1), (1, 1), (0, 40), (40, 40), (7, 40), (655, 680), (660, 680)])
def test_wilson_bounds_are_where_the_score_test_just_rejects(hits: int, total: int, confidence: float) -> None:
    share, z = hits / total, norm.ppf(0.5 + confidence / 2)
    low, high = wilson_interval(hits, total, confidence)
    for bound in (low, high):
        if 0 < bound < 1:
            assert abs(share - bound) == pytest.approx(z * np.sqrt(bound * (1 - bound) / total), abs=1e-9)
    assert 0 <= low <= share <= high <= 1


def test_wilson_covers_a_proportion() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for hits in rng.binomial(680, 0.96, 1000):
        low, high = wilson_interval(int(hits), 680)
        covered += low <= 0.96 <= high
    assert 930 < covered < 970


@pytest.mark.parametrize("statistic", ["mean", "median"])
def test_bootstrap_covers_the_centre(statistic: str) -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(100):
        low, high = bootstrap_interval(rng.normal(3, 1, 40), statistic, draws=400)
        covered += low <= 3 <= high
    assert 86 <= covered <= 100


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
