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


def crossed_interval(values: NDArray[np.float64], confidence: float = 0.95) -> tuple[float, float, float]:
    """Mean and confidence interval of a quantity measured on the same films in several trials.

    Films and trials are crossed and both are draws: another test set and another training would both give another
    mean. Their variances are estimated as in a two-way analysis of variance with random effects and one value in a
    cell, and the interval is Student's with Satterthwaite's degrees of freedom. With one trial only the films
    are drawn, and the interval holds for that one training.

    Args:
        values: float (trials, films), such as 1 where a film is classified rightly, or the difference of two
            networks on it.
        confidence: coverage of the interval.

    Returns:
        Mean, lower and upper bound.
    """
    trials, films = values.shape
    mean = float(values.mean())
    by_film = trials * float(values.mean(axis=0).var(ddof=1))
    variance, freedom = by_film, float(films - 1)
    if trials > 1:
        by_trial = films * float(values.mean(axis=1).var(ddof=1))
        rest = values - values.mean(axis=0) - values.mean(axis=1, keepdims=True) + mean
        cells = float((rest**2).sum()) / ((trials - 1) * (films - 1))
        variance = max(by_trial + by_film - cells, by_film)
        spread = by_trial**2 / (trials - 1) + by_film**2 / (films - 1) + cells**2 / ((trials - 1) * (films - 1))
        freedom = variance**2 / spread if spread else freedom
    half = float(scipy.stats.t.ppf((1 + confidence) / 2, freedom)) * np.sqrt(variance / values.size)
    return mean, mean - half, mean + half
