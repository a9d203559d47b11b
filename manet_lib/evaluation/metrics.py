"""Scores of both stages: intersection over union, confusion matrix, precision, recall and F1."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import sklearn.metrics
from numpy.typing import NDArray


def intersection_over_union(predicted: NDArray[np.bool_], truth: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Intersection over union of each image (section 4.1).

    Args:
        predicted: bool (B, ...).
        truth: bool, of the same shape.

    Returns:
        float64 (B,) in [0, 1]; two empty masks agree fully and score 1.
    """
    axes = tuple(range(1, predicted.ndim))
    both = (predicted & truth).sum(axis=axes)
    either = (predicted | truth).sum(axis=axes)
    return np.where(either == 0, 1.0, both / np.maximum(either, 1))


def confusion_matrix(actual: Sequence[str], predicted: Sequence[str], classes: Sequence[str]) -> pd.DataFrame:
    """Counts of images by actual class (rows) and predicted class (columns), as Table 5 prints them.

    Raises:
        KeyError: a label is none of the classes.
    """
    unknown = {*actual, *predicted} - {*classes}
    if unknown:
        raise KeyError(", ".join(sorted(unknown)))
    counts = np.zeros((len(classes), len(classes)), dtype=np.int64)
    if len(actual):
        counts = sklearn.metrics.confusion_matrix(list(actual), list(predicted), labels=list(classes))
    return pd.DataFrame(counts, index=pd.Index(classes, name="actual"), columns=list(classes))


def classification_report(confusion: pd.DataFrame) -> pd.DataFrame:
    """Precision, recall, F1 and support of each class, and their support-weighted average (Table 4).

    Args:
        confusion: from :func:`confusion_matrix`.

    Returns:
        One row per class and a row `weighted average`; a class that is never predicted has precision 0, one
        that never occurs recall 0.
    """
    counts = confusion.to_numpy().ravel()
    actual, predicted = (np.repeat(side, counts) for side in np.indices(confusion.shape).reshape(2, -1))
    columns, index = ["precision", "recall", "f1", "support"], pd.Index(confusion.index, name="class")
    if not len(actual):
        return pd.DataFrame(0.0, [*index, "weighted average"], columns).astype({"support": np.int64})

    def scores(average: str | None) -> list[NDArray[np.float64]]:
        labels = range(len(confusion))
        return sklearn.metrics.precision_recall_fscore_support(
            actual, predicted, labels=labels, average=average, zero_division=0
        )

    table = pd.DataFrame(dict(zip(columns, scores(None), strict=True)), index=index)
    table.loc["weighted average"] = [*scores("weighted")[:3], len(actual)]
    return table.astype({"support": np.int64})


def late_epochs(epochs: int) -> int:
    """How many epochs count as late in a training run: the last quarter, and the epoch before it."""
    return min(epochs, max(3, epochs // 4 + 1))


def late_jumps(log: pd.DataFrame) -> tuple[float, float]:
    """How much validation jumps from epoch to epoch over the last quarter of a training run.

    Returns:
        Standard deviation of the differences of accuracy, in percentage points, and of loss.
    """
    late = log.tail(late_epochs(len(log)))
    jumps = late[["val_accuracy", "val_loss"]].diff().dropna().std(ddof=1)
    return 100 * float(jumps["val_accuracy"]), float(jumps["val_loss"])
