"""Checks of exercises on calibration and on out-of-distribution images (notebook 11)."""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.spatial.distance import cdist
from scipy.special import softmax
from sklearn.metrics import roc_auc_score

from manet_lib.evaluation.scores import bin_of, calibration_values
from manet_lib.inference.calibration import fit_temperature
from manet_lib.params import CLASSES
from manet_lib.teaching.images import SIZE, drawn
from manet_lib.teaching.verdict import NotYet, ask, check, close, number, numbers, picture, refuse

Numbers = NDArray[np.float64]

TEN_ANSWERS = pd.DataFrame(
    {
        "confidence": [0.62, 0.66, 0.82, 0.84, 0.86, 0.88, 0.92, 0.94, 0.96, 0.98],
        "right": [True, True, True, False, True, True, True, True, False, True],
    },
    index=pd.Index(range(1, 11), name="image"),
)
"""How sure a network is of its predictions for ten images, and whether they are right."""

BINS = ("0.6 to 0.7", "0.8 to 0.9", "0.9 to 1.0")
"""The bins of confidence that hold any of them."""


@check
def check_calibration_error(answer: Any) -> str:
    """11, first exercise: differences in the three bins of :data:`TEN_ANSWERS`, and the expected error."""
    *gaps, error = numbers(answer, (*BINS, "expected calibration error"))
    confidence, right = (TEN_ANSWERS[name].to_numpy() for name in ("confidence", "right"))
    groups = TEN_ANSWERS.assign(right=right.astype(float)).groupby(bin_of(confidence))
    table, counts = groups.mean(), groups.size().to_numpy()
    differences = (table["confidence"] - table["right"]).to_numpy()
    for found, name, row, wanted in zip(gaps, BINS, table.itertuples(), abs(differences), strict=True):
        if close(found, -wanted):
            raise NotYet(f"bin {name}: {found:.3f} is negative; a difference counts whichever side it is on.")
        if close(found, row.confidence) or close(found, row.right):
            raise NotYet(
                f"bin {name}: {found:.3f} is one of the two; take confidence less accuracy, without sign."
            )
        if not close(found, wanted):
            raise NotYet(
                f"bin {name}: the mean confidence is {row.confidence:.2f} and {100 * row.right:.0f}% are "
                f"right, so that they differ by {wanted:.2f} and not by {found:.3f}."
            )
    wanted = float(calibration_values(confidence[None], right[None]).mean())
    cancelled = abs(float((counts * differences).sum())) / 10
    mistakes = {
        "the bins count alike in it; weigh each with its images": np.abs(differences).mean(),
        "too sure and not sure enough cancel in it; take each difference without its sign": cancelled,
        "it is the sum of the three; weigh each with its share of the images": np.abs(differences).sum(),
        "it is taken image by image; average in each bin first": np.abs(confidence - right).mean(),
        "empty bins are counted; they hold no image and weigh nothing": np.abs(differences).sum() / 10,
    }
    refuse(error, wanted, mistakes, f"the error is not {error:.3f}: ")
    if not close(error, wanted):
        raise NotYet(
            f"the error is not {error:.3f}: add up images × difference of the three bins, and divide by ten."
        )
    return (
        f"the error is {wanted:.3f}, although the mean confidence, {confidence.mean():.2f}, is close to the "
        f"accuracy, {right.mean():.2f}: the network is not sure enough where it hesitates and too sure where "
        "it is certain."
    )


class Answered(NamedTuple):
    """Logits (N, 5) of invented images, and the number of their true class, int (N,)."""

    logits: Numbers
    classes: NDArray[np.int64]


@cache
def answered_images(temperature: float = 2.5, count: int = 600, seed: int = 0) -> Answered:
    """Logits that are too large by a factor; divided by it, softmax says how often each class is the true one."""
    rng = np.random.default_rng(seed)
    true = 3 / np.sqrt(temperature) * rng.normal(size=(count, len(CLASSES)))
    classes = [rng.choice(len(CLASSES), p=odds) for odds in softmax(true, axis=1)]
    return Answered(temperature * true, np.array(classes))


@check
def check_temperature(temperature_of: Callable[[Numbers, NDArray[np.int64]], float]) -> str:
    """11, second exercise: the number by which logits are divided so that the true classes are most probable."""
    sets = [answered_images(true, seed=seed) for true, seed in ((2.5, 0), (0.6, 1), (4.0, 2))]
    found = np.array([number(temperature_of, *images) for images in sets])
    wanted = np.array([fit_temperature(*images) for images in sets])
    words = f"for three sets of images you say {', '.join(f'{one:.3g}' for one in found)}"
    if (found <= 0).any():
        raise NotYet(f"{words}: a temperature is above 0.")
    if (abs(found * wanted - 1) < 0.01).all():
        raise NotYet(f"{words}: the logits are multiplied by these; divide them.")
    if (abs(found / [_as_sure_as_right(*images) for images in sets] - 1) < 0.01).all():
        raise NotYet(
            f"{words}: with these the mean confidence is the accuracy, which is close, but not the same; take "
            "those at which the true classes have the largest sum of logarithms."
        )
    away = abs(found / wanted - 1).max()
    right_ones = f"{words}, where {', '.join(f'{one:.3g}' for one in wanted)} are best"
    if (found == found[0]).all():
        raise NotYet(
            f"{right_ones}: accuracy cannot choose it, as no temperature changes an answer; and if yours is the "
            "end of your range, the sign of what you look for may be turned."
        )
    if (abs(found / wanted - 1) <= 0.02).any() and away > 0.25:
        raise NotYet(f"{right_ones}: some are right, so does your range of temperatures end too early?")
    if 0.02 < away < 0.25:
        raise NotYet(f"{right_ones}: near, but try more temperatures around yours.")
    if away > 0.02:
        raise NotYet(f"{right_ones}: is it the *largest* mean, at the true class, of logits *divided* by it?")
    by_hand = float(found[0])
    new = answered_images(seed=9)
    right = (new.logits.argmax(axis=1) == new.classes)[None]
    before, after = (
        float(calibration_values(softmax(new.logits / by, axis=1).max(axis=1)[None], right).mean())
        for by in (1.0, by_hand)
    )
    return (
        f"divided by {by_hand:.2f} the logits of *new* images have an expected calibration error of {after:.3f} "
        f"instead of {before:.3f}, and {100 * right.mean():.0f}% of them are right before and after."
    )


def _as_sure_as_right(logits: Numbers, classes: NDArray[np.int64]) -> float:
    right = (logits.argmax(axis=1) == classes).mean()
    return float(brentq(lambda by: softmax(logits / by, axis=1).max(axis=1).mean() - right, 0.05, 20))


class Halves(NamedTuple):
    """Two features of images: the mean grey value of the left half and of the right, each float (N, 2).

    Attributes:
        training: of images that a distance is fitted to.
        validation: of others of the same kind.
        outside: of images whose left half is a tenth darker.
    """

    training: Numbers
    validation: Numbers
    outside: Numbers


@cache
def halves() -> Halves:
    """Features of 150 phantoms; only the balance of the two halves distinguishes the unusual ones."""
    images = np.stack([drawn(CLASSES[number % 5], number).image for number in range(150)]).astype(float)
    features = np.stack([images[:, :, : SIZE // 2].mean((1, 2)), images[:, :, SIZE // 2 :].mean((1, 2))], axis=1)
    return Halves(features[:60], features[60:100], features[100:] * (0.9, 1))


@check
def check_out_of_distribution(
    distance: Callable[[Numbers, Numbers], Numbers],
    limit: Callable[[Numbers], float],
    auroc: Callable[[Numbers, Numbers], float],
) -> str:
    """11, third exercise: Mahalanobis distance, a limit that 95% do not exceed, and AUROC from pairs."""
    usual, outside = _distances(distance)
    _check_limit(limit)
    _check_auroc(auroc)
    training, validation, foreign = halves()
    alone = auroc_by_rank(-validation[:, 0], -foreign[:, 0])
    straight = auroc_by_rank(*(np.linalg.norm(part - training.mean(0), axis=1) for part in (validation, foreign)))
    bound = float(limit(usual))
    detected = 100 * (outside > bound).mean()
    return (
        f"AUROC is {auroc_by_rank(usual, outside):.2f}, and {detected:.0f}% of the out-of-distribution images lie "
        f"above the limit of {bound:.1f}. Low values of the left half alone have an AUROC of {alone:.2f}, and the "
        f"Euclidean distance has {straight:.2f}: it is the difference of the halves that is unusual."
    )


def _distances(distance: Callable[[Numbers, Numbers], Numbers]) -> tuple[Numbers, Numbers]:
    training, *others = halves()
    found = []
    for part in others:
        off, own = part - training.mean(axis=0), mahalanobis(part, part)
        wanted = mahalanobis(part, training)
        one = picture(ask(distance, part, training), wanted.shape, "row of distances").astype(float)
        alone = np.sqrt((off**2 / training.var(axis=0, ddof=1)).sum(axis=1))
        not_inverted = np.sqrt(np.maximum(((off @ np.cov(training.T)) * off).sum(axis=1), 0))
        straight = "this is the straight (Euclidean) distance, in which no direction is wider than another"
        asked = "the mean or the covariance is that of the images asked about; take both from the training images"
        mistakes = {
            "these are squares; take the root": wanted**2,
            straight: np.linalg.norm(off, axis=1),
            "each feature is scaled alone; the covariance knows that both rise together": alone,
            asked: own,
            "you multiply by the covariance; its inverse belongs there": not_inverted,
        }
        for reason, other in mistakes.items():
            if np.allclose(one, other, rtol=0.01):
                raise NotYet(f"distance: {reason}.")
        if not np.allclose(one, wanted, rtol=0.02):
            place = int(np.argmax(np.abs(one / wanted - 1)))
            raise NotYet(f"distance: image {place} is {wanted[place]:.2f} away, and you say {one[place]:.2f}.")
        found.append(wanted)
    return found[0], found[1]


def mahalanobis(images: Numbers, training: Numbers) -> Numbers:
    """Mahalanobis distance of images (N, F) from the training images (M, F): (N,), by SciPy."""
    inverse = np.linalg.inv(np.cov(training.T))
    return cdist(images, training.mean(axis=0, keepdims=True), "mahalanobis", VI=inverse)[:, 0]


def _check_limit(limit: Callable[[Numbers], float]) -> None:
    for seed, count in ((0, 200), (1, 1000)):
        values = np.random.default_rng(seed).lognormal(sigma=1.5, size=count)
        found = number(limit, values)
        passed = float((values <= found).mean())
        if abs(passed - 0.05) < 0.02:
            raise NotYet(f"limit: {100 * passed:.0f}% lie below yours; 95% are to lie at or below it.")
        if abs(passed - 0.95) > 0.006:
            raise NotYet(
                f"limit: of {count} images 95% are to lie at or below it; yours, {found:.2f}, has "
                f"{100 * passed:.1f}% at or below it. These distances are not normally distributed: "
                "count instead of using mean and spread."
            )


def _check_auroc(auroc: Callable[[Numbers, Numbers], float]) -> None:
    rng = np.random.default_rng(0)
    for usual, outside in (
        (rng.normal(size=30), rng.normal(1, size=20)),
        (np.array([1.0, 2, 2, 3]), np.array([2.0, 2, 4])),
    ):
        found, wanted = number(auroc, usual, outside), auroc_by_rank(usual, outside)
        above, level = outside[None] > usual[:, None], outside[None] == usual[:, None]
        turned = "the pairs are counted the other way round; the out-of-distribution image is to score higher"
        mistakes = {
            turned: 1 - wanted,
            "this is a number of pairs; divide by all pairs": wanted * above.size,
            "a pair with the same score counts a half, and you count none": above.mean(),
            "a pair with the same score counts a half, and you count it whole": (above | level).mean(),
        }
        refuse(found, wanted, mistakes, f"AUROC: {found:.3f}: ")
        if not close(found, wanted):
            raise NotYet(
                f"AUROC: of {len(usual)} × {len(outside)} pairs a share of {wanted:.3f} is in order, and you "
                f"say {found:.3f}."
            )


def auroc_by_rank(usual: Numbers, outside: Numbers) -> float:
    """AUROC of scores that should be higher on out-of-distribution images, by scikit-learn."""
    return float(roc_auc_score(np.repeat([0, 1], [len(usual), len(outside)]), np.append(usual, outside)))
