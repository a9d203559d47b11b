"""Probabilities that mean what they say: temperature scaling (Guo et al., 2017)."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

_LOWEST, _HIGHEST = 0.05, 20.0


def fit_temperature(logits: NDArray[np.floating], targets: NDArray[np.integer]) -> float:
    """The number by which logits are divided so that the images' true classes are most probable.

    It changes no decision. Fit it to validation images, on which nothing was trained.

    Args:
        logits: float (N, classes), N >= 1.
        targets: class numbers, int (N,).

    Returns:
        Between 0.05 and 20; above 1 where the network is too sure.
    """

    def loss(log_temperature: float) -> float:
        scaled = log_softmax(logits.astype(np.float64) / np.exp(log_temperature), axis=1)
        return -float(scaled[np.arange(len(targets)), targets].mean())

    found = minimize_scalar(loss, bounds=(np.log(_LOWEST), np.log(_HIGHEST)), method="bounded")
    return float(np.exp(found.x))
