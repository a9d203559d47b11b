"""Scores as means over images, so that one interval serves all of them.

Each function gives a value for every image in every trial whose mean over the images is the score of that trial.
A share of some of the images, such as precision, is linearised: an image's value is the share, plus what the image
adds to it. :func:`manet_lib.evaluation.statistics.share_interval` makes an interval over patients and trials of
them. It takes the number of images of each class as drawn, too; where a split fixes it, intervals of precision
and F1 are a little wide.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from manet_lib.data.seeds import stable_hash
from manet_lib.evaluation.statistics import share_interval

Values = NDArray[np.float64]
BINS = 10
"""Bins of equal width in which confidence is compared with accuracy."""


def ratio_values(part: NDArray[Any], whole: NDArray[Any]) -> Values:
    """The sum of one quantity over that of another, both (trials, images); 0 in a trial where the other is 0."""
    total = whole.sum(axis=1, keepdims=True)
    ratio = part.sum(axis=1, keepdims=True) / np.where(total > 0, total, 1)
    added = (part - ratio * whole) * part.shape[1] / np.where(total > 0, total, 1)
    return np.where(total > 0, ratio + added, 0.0)


def precision_values(actual: NDArray[np.bool_], predicted: NDArray[np.bool_]) -> Values:
    """Precision of a class: of the images taken for it, those that are. Both bool (trials, images)."""
    return ratio_values((actual & predicted).astype(float), predicted.astype(float))


def recall_values(actual: NDArray[np.bool_], predicted: NDArray[np.bool_]) -> Values:
    """Recall of a class: of its images, those taken for it. Both bool (trials, images)."""
    return ratio_values((actual & predicted).astype(float), actual.astype(float))


def f1_values(actual: NDArray[np.bool_], predicted: NDArray[np.bool_]) -> Values:
    """F1 of a class, the harmonic mean of precision and recall. Both bool (trials, images)."""
    return ratio_values(2.0 * (actual & predicted), actual.astype(float) + predicted)


def auc_values(actual: NDArray[np.bool_], scores: NDArray[np.float64]) -> Values:
    """Area under the ROC curve of one class against the rest, from DeLong's placements (Biometrics 44, 1988).

    Args:
        actual: which images are of the class, bool (images,).
        scores: probability of the class, float (trials, images).

    Returns:
        Values (trials, images); NaN where all images or none are of the class.
    """
    sides = (int(actual.sum()), int((~actual).sum()))
    values = np.full(scores.shape, np.nan)
    if not min(sides):
        return values
    ranks = rankdata(scores, axis=1)
    for side, own, others in ((actual, *sides), (~actual, *sides[::-1])):
        below = (ranks[:, side] - rankdata(scores[:, side], axis=1)) / others  # share of the other side below
        values[:, side] = below if side is actual else 1 - below
        area = values[:, side].mean(axis=1, keepdims=True)
        values[:, side] = area + (values[:, side] - area) * len(actual) / own
    return values


def brier_values(actual: NDArray[np.bool_], probabilities: NDArray[np.float64]) -> Values:
    """Brier's score, the squared distance of probabilities and truth, from 0 to 2 (Brier, 1950).

    Args:
        actual: one-hot classes, bool (images, classes).
        probabilities: (trials, images, classes).
    """
    return ((probabilities - actual) ** 2).sum(axis=2)


def brier_interval(
    actual: NDArray[np.bool_], probabilities: NDArray[np.float64], patients: Sequence[object] | None = None
) -> tuple[float, float, float]:
    """Brier's score and its confidence interval, which stays between 0 and 2; see :func:`brier_values`."""
    mean, low, high = share_interval(brier_values(actual, probabilities) / 2, patients)
    return 2 * mean, 2 * low, 2 * high


def calibration_values(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> Values:
    """Expected calibration error: by how far confidence and accuracy differ, bin by bin (Guo et al., 2017).

    Chance alone drives it above 0, most with few images, so that an interval around it would not hold the truth;
    see :func:`calibration_by_chance`.

    Args:
        confidence: probability of the predicted class, (trials, images).
        right: whether it is the true one, bool (trials, images).
    """
    gaps = right - confidence
    values = np.empty_like(gaps)
    for gap, bins, row in zip(gaps, bin_of(confidence), values, strict=True):
        sign = np.sign(np.bincount(bins, weights=gap, minlength=BINS))
        row[:] = sign[bins] * gap
    return values


def bin_of(confidence: NDArray[np.float64]) -> NDArray[np.int64]:
    """The bin of each confidence in [0, 1], from 0 to ``BINS`` - 1."""
    return np.minimum((confidence * BINS).astype(np.int64), BINS - 1)


def calibration_by_chance(confidence: NDArray[np.float64]) -> float:
    """What the expected calibration error stays below in 95% of 1000 draws if every probability were true.

    Args:
        confidence: probability of the predicted class, (trials, images).
    """
    rng, images = np.random.default_rng(stable_hash("calibration", *confidence.shape)), confidence.shape[1]
    right = (rng.random(images) < confidence for _ in range(1000))  # an image has one truth in all trials
    return float(np.quantile([calibration_values(confidence, one).mean() for one in right], 0.95))
