"""Uncertainty of what was measured."""

from __future__ import annotations

from math import sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from manet_lib.seeds import stable_hash


def wilson_interval(hits: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a proportion, such as test accuracy.

    Args:
        hits: successes.
        total: trials, 1 or more.
        confidence: coverage of the interval.

    Returns:
        Lower and upper bound, in [0, 1].
    """
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share = hits / total
    centre = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return centre - half if hits else 0.0, centre + half if hits < total else 1.0


def bootstrap_interval(
    values: NDArray[np.float64], statistic: str = "mean", confidence: float = 0.95, draws: int = 10_000
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean or median of a sample.

    Args:
        values: float (N,), N >= 1.
        statistic: `mean` or `median`.
        confidence: coverage of the interval.
        draws: resamples; they depend on the sample's size alone, so the interval is the same every time.
    """
    rng = np.random.default_rng(stable_hash("bootstrap", len(values)))
    picks = rng.integers(0, len(values), (draws, len(values)))
    sample = np.asarray(values)[picks]
    centres = sample.mean(axis=1) if statistic == "mean" else np.median(sample, axis=1)
    low, high = np.quantile(centres, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
