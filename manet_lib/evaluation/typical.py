"""How far a film is from those of a training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA

KEPT = 32
"""Directions in which the films of a training are told apart; what is left counts as equally wide."""


@dataclass(frozen=True)
class TypicalFilms:
    """The features of a training's films as one normal distribution (probabilistic PCA; Tipping & Bishop, 1999).

    Attributes:
        mean: float (F,).
        directions: orthonormal, float (K, F).
        variances: of the features in these directions, float (K,).
        rest: variance in each of the other directions, above 0.
    """

    mean: NDArray[np.float32]
    directions: NDArray[np.float32]
    variances: NDArray[np.float32]
    rest: float

    @classmethod
    def fit(cls, features: NDArray[np.floating]) -> TypicalFilms:
        """Fit to features, float (N, F), N >= 2; the largest 32 directions, or as many as there are films for."""
        films, width = features.shape
        found = PCA(min(KEPT, films - 1, width - 1), svd_solver="full").fit(features.astype(np.float64))
        scale = max(float(found.explained_variance_.max()), 1e-12)
        return cls(
            found.mean_.astype(np.float32),
            found.components_.astype(np.float32),
            np.maximum(found.explained_variance_, 1e-6 * scale).astype(np.float32),
            max(float(found.noise_variance_), 1e-6 * scale),
        )

    def distance(self, features: NDArray[np.floating]) -> NDArray[np.float64]:
        """Mahalanobis distance of films, float (N, F), over what is expected of a film of the training: (N,).

        1 is a usual film of the training; the root mean square over all its films is 1.
        """
        away = features.astype(np.float64) - self.mean
        along = away @ self.directions.T.astype(np.float64)
        across = np.maximum((away**2).sum(axis=1) - (along**2).sum(axis=1), 0)
        return np.sqrt(((along**2 / self.variances).sum(axis=1) + across / self.rest) / features.shape[1])
