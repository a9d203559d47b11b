"""Uncertainty of what was measured."""

from collections.abc import Sequence

import numpy as np
import scipy.stats
from numpy.typing import NDArray

from manet_lib.data.seeds import stable_hash


def bootstrap_interval(
    values: NDArray[np.float64], statistic: str = "mean", confidence: float = 0.95
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean or median of a sample.

    Its 10 000 draws depend on the sample's size alone, so the interval is the same every time.

    Args:
        values: float (N,), N >= 1.
        statistic: `mean` or `median`.
        confidence: coverage of the interval.
    """
    sample = np.asarray(values, dtype=np.float64)
    if len(sample) == 1:  # SciPy wants two
        return float(sample[0]), float(sample[0])
    result = scipy.stats.bootstrap(
        (sample,),
        np.mean if statistic == "mean" else np.median,
        n_resamples=10_000,
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(stable_hash("bootstrap", len(sample))),
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def student_interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """Mean of two or more independent values, float (N,), and half the width of Student's 95% interval."""
    half = scipy.stats.t.ppf(0.975, len(values) - 1) * scipy.stats.sem(values)
    return float(np.mean(values)), float(half)


def crossed_interval(
    values: NDArray[np.float64], patients: Sequence[object] | None = None
) -> tuple[float, float, float]:
    """Mean and 95% confidence interval of a quantity measured on the same images in several trials.

    Images and trials are crossed and both are draws: another test set and another training would both give another
    mean. Their variances are estimated as in a two-way analysis of variance with random effects and one value in a
    cell, and the interval is Student's with Satterthwaite's degrees of freedom. With one trial only the images
    are drawn, and the interval holds for that one training run. Images of one patient are drawn together.

    Args:
        values: float (trials, images), such as 1 where an image is classified correctly, or the difference of two
            networks on it.
        patients: of each image; without them each image counts as a patient of its own.

    Returns:
        Mean, lower and upper bound; NaN for the bounds where all images are of one patient.
    """
    mean, variance, freedom = _crossed(values, patients)
    if patients is not None and len(set(patients)) == 1:
        return mean, float("nan"), float("nan")
    half = float(scipy.stats.t.ppf(0.975, freedom)) * float(np.sqrt(variance))
    return mean, mean - half, mean + half


def share_interval(
    values: NDArray[np.float64] | NDArray[np.bool_],
    patients: Sequence[object] | None = None,
    images: int | None = None,
) -> tuple[float, float, float]:
    """Mean and 95% confidence interval of a share, such as accuracy, on the same images in several trials.

    The variance is that of :func:`crossed_interval`; the interval is Wilson's for as many independent images as
    would have that variance, so that it stays within [0, 1]. The simulated coverage of accuracy is 94 to 98%
    (nominal 95%) with one trial or with three and more, and 89% in the worst case, two trials that differ widely.

    Args:
        values: of each image in each trial, (trials, images), whose mean is the share, in [0, 1]: whether it is
            classified correctly, or one of :mod:`manet_lib.evaluation.scores`.
        patients: of each image; images of a patient are drawn together.
        images: number of independent images (patients, where they are given) that the share is of; used only where
            the values have no variance. If not given, that of all images or patients.

    Returns:
        Share, lower and upper bound, in [0, 1]; NaN where a value is NaN.
    """
    mean, variance, freedom = _crossed(values.astype(float), patients)
    count: float = images or (values.shape[1] if patients is None else len(set(patients)))
    deviate = scipy.stats.norm.ppf(0.975)
    if variance > 0 and 0 < mean < 1:
        count = mean * (1 - mean) / variance
        deviate = scipy.stats.t.ppf(0.975, freedom)
    chance = float(deviate) ** 2 / count
    centre, half = mean + chance / 2, np.sqrt(chance * mean * (1 - mean) + chance**2 / 4)
    low, high = float((centre - half) / (1 + chance)), float((centre + half) / (1 + chance))
    return mean, min(low, mean), max(high, mean)  # rounding may put a bound beyond a share of 0 or 1


def _crossed(values: NDArray[np.float64], patients: Sequence[object] | None) -> tuple[float, float, float]:
    """Mean of values (trials, images), variance of that mean, and degrees of freedom of the variance."""
    trials, images = values.shape
    mean = float(values.mean())
    if patients is None:
        codes = np.arange(images)
    else:
        codes = np.unique(np.asarray(patients, dtype=str), return_inverse=True)[1]
    drawn = int(codes.max()) + 1
    between_patients = _variance_of_mean(values.mean(axis=0) - mean, codes, images)
    variance, freedom = between_patients, float(max(drawn - 1, 1))
    if trials > 1 and drawn > 1:
        between_trials = float(values.mean(axis=1).var(ddof=1)) / trials
        rest = values - values.mean(axis=0) - values.mean(axis=1, keepdims=True) + mean
        cells = sum(_variance_of_mean(row, codes, images) for row in rest) / (trials * (trials - 1))
        # an estimate below one of its parts is chance, and would leave next to no degrees of freedom
        variance = max(between_trials + between_patients - cells, between_patients, between_trials, cells)
        spread = between_trials**2 / (trials - 1) + between_patients**2 / (drawn - 1)
        spread += cells**2 / ((trials - 1) * (drawn - 1))
        freedom = max(variance**2 / spread, min(trials, drawn) - 1) if spread else freedom
    return mean, variance, freedom


def _variance_of_mean(deviations: NDArray[np.float64], codes: NDArray[np.int64], images: int) -> float:
    """Variance of a mean over images whose patients are drawn, from each image's deviation from it."""
    sums = np.bincount(codes, weights=deviations)
    return float((sums**2).sum()) * len(sums) / max(len(sums) - 1, 1) / images**2
