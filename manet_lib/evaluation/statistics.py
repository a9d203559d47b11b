"""Uncertainty of what was measured."""

from __future__ import annotations

import numpy as np
import scipy.stats
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
    interval = scipy.stats.binomtest(hits, total).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


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
    sample = np.asarray(values, dtype=np.float64)
    if len(sample) == 1:  # SciPy wants two
        return float(sample[0]), float(sample[0])
    result = scipy.stats.bootstrap(
        (sample,),
        np.mean if statistic == "mean" else np.median,
        n_resamples=draws,
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(stable_hash("bootstrap", len(sample))),
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)
