"""Scores of both stages: intersection over union, accuracy, precision, recall, F1, confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
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
    """Counts of images by actual class (rows) and predicted class (columns), as Table 5 prints them."""
    counts = np.zeros((len(classes), len(classes)), dtype=np.int64)
    place = {name: number for number, name in enumerate(classes)}
    np.add.at(counts, ([place[name] for name in actual], [place[name] for name in predicted]), 1)
    index = pd.Index(classes, name="actual")
    return pd.DataFrame(counts, index=index, columns=list(classes))


def classification_report(confusion: pd.DataFrame) -> pd.DataFrame:
    """Precision, recall, F1 and support of each class, and their support-weighted average (Table 4).

    Args:
        confusion: from :func:`confusion_matrix`.

    Returns:
        One row per class and a row `weighted average`; a class that is never predicted has precision 0, one
        that never occurs recall 0.
    """
    counts = confusion.to_numpy(dtype=np.float64)
    hits, support, predicted = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    precision = hits / np.maximum(predicted, 1)
    recall = hits / np.maximum(support, 1)
    f1 = 2 * hits / np.maximum(support + predicted, 1)
    table = pd.DataFrame(
        {"precision": precision, "recall": recall, "f1": f1, "support": support.astype(np.int64)},
        index=pd.Index(confusion.index, name="class"),
    )
    weights = support / max(support.sum(), 1)
    average = [float((weights * column).sum()) for column in (precision, recall, f1)]
    table.loc["weighted average"] = [*average, int(support.sum())]
    return table.astype({"support": np.int64})


def accuracy(confusion: pd.DataFrame) -> tuple[int, int]:
    """Number of images on the diagonal of a confusion matrix, and number of all images."""
    counts = confusion.to_numpy()
    return int(np.trace(counts)), int(counts.sum())
