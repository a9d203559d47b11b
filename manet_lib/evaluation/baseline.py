"""How far brightness alone goes: a check that a task is not trivial."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def lung_statistics(images: NDArray[np.uint8], masks: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Mean and spread of the grey values inside the lungs, and area of the lungs: float64 (N, 3).

    Args:
        images: uint8 (N, S, S).
        masks: uint8 0 or 1, (N, S, S).
    """
    inside = masks.astype(bool)
    features = []
    for image, mask in zip(images, inside, strict=True):
        values = image[mask] if mask.any() else np.zeros(1)
        features.append((values.mean(), values.std(), mask.mean()))
    return np.array(features)


def lung_statistics_accuracy(
    images: NDArray[np.uint8], masks: NDArray[np.uint8], manifest: pd.DataFrame
) -> tuple[int, int]:
    """Test films that logistic regression on :func:`lung_statistics` gets right, and number of test films."""
    features, labels = lung_statistics(images, masks), manifest["label"].to_numpy()
    train, test = (manifest["split"] == "train").to_numpy(), (manifest["split"] == "test").to_numpy()
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    model.fit(features[train], labels[train])
    return int((model.predict(features[test]) == labels[test]).sum()), int(test.sum())
