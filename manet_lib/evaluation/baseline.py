"""How far brightness alone goes: a check that a task is not trivial."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from manet_lib.data.scaling import resize


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


def predicted_correctly(features: NDArray[np.float64], manifest: pd.DataFrame, column: str) -> NDArray[np.bool_]:
    """Which test images logistic regression gets right: bool, in the order of the manifest.

    Args:
        features: of each image, float (N, F).
        manifest: of the same images.
        column: what is predicted, such as label or source.
    """
    wanted = manifest[column].to_numpy()
    train, test = (manifest["split"] == "train").to_numpy(), (manifest["split"] == "test").to_numpy()
    return np.asarray(fitted(features[train], wanted[train]).predict(features[test]) == wanted[test])


def fitted(features: NDArray[np.float64], labels: NDArray[Any]) -> Pipeline:
    """Logistic regression on standardised features, float (N, F), fitted to labels (N,)."""
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(features, labels)


def thumbnails(pictures: Iterable[NDArray[np.uint8]], side: int = 16) -> NDArray[np.float64]:
    """Pictures, uint8 (S, S), so small that only their coarse grey values are left: float64 (N, side²)."""
    return np.stack([resize(picture, (side, side)).ravel() for picture in pictures]).astype(np.float64)
