"""How far an image is from the training images."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA

KEPT = 32
"""Principal components of the training images' features that are kept; the rest share one variance."""


@dataclass(frozen=True)
class TypicalImages:
    """The features of training images as one normal distribution (probabilistic PCA; Tipping & Bishop, 1999).

    Attributes:
        mean: float (F,).
        directions: orthonormal, float (K, F).
        variances: of the features in these directions, float (K,).
        rest: variance in each of the other directions, above 0.
        usual: the Mahalanobis distance of a usual image that was not fitted.
    """

    mean: NDArray[np.float32]
    directions: NDArray[np.float32]
    variances: NDArray[np.float32]
    rest: float
    usual: float = 1.0

    @classmethod
    def fit(cls, features: NDArray[np.floating], held_out: NDArray[np.floating]) -> TypicalImages:
        """Fit to the training images; the largest 32 directions, or as many as there are images for.

        Args:
            features: of training images, float (N, F), N >= 2.
            held_out: of other images of the same kind, whose median distance becomes 1: (M, F), M >= 1.
        """
        images, width = features.shape
        found = PCA(min(KEPT, images - 1, width - 1), svd_solver="full").fit(features.astype(np.float64))
        scale = max(float(found.explained_variance_.max()), 1e-12)
        fitted = cls(
            found.mean_.astype(np.float32),
            found.components_.astype(np.float32),
            np.maximum(found.explained_variance_, 1e-6 * scale).astype(np.float32),
            max(float(found.noise_variance_), 1e-6 * scale),
        )
        usual = max(float(np.median(fitted.distance(held_out))), 1e-12)
        return replace(fitted, usual=usual)

    def distance(self, features: NDArray[np.floating]) -> NDArray[np.float64]:
        """Mahalanobis distance of images, float (N, F), over that of a usual image: (N,)."""
        away = features.astype(np.float64) - self.mean
        along = away @ self.directions.T.astype(np.float64)
        across = np.maximum((away**2).sum(axis=1) - (along**2).sum(axis=1), 0)
        return np.sqrt((along**2 / self.variances).sum(axis=1) + across / self.rest) / self.usual
