"""Temperature: found again where it is known, and no decision changes."""

import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from manet_lib.inference.calibration import fit_temperature


def draws(temperature, images=20_000, seed=0):
    """Logits of which the truth is drawn after a division by ``temperature``."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, (images, 5))
    shares = softmax(logits / temperature, axis=1).cumsum(axis=1)
    return logits, (rng.random((images, 1)) > shares).sum(axis=1)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_temperature_that_made_the_truth_is_found(temperature):
    assert fit_temperature(*draws(temperature)) == pytest.approx(temperature, rel=0.05)


def test_no_other_temperature_of_a_grid_makes_the_truth_more_probable():
    logits, targets = draws(1.7, images=300, seed=1)

    def loss(temperature):
        return -log_softmax(logits / temperature, axis=1)[np.arange(len(targets)), targets].mean()

    grid = np.geomspace(0.05, 20, 400)
    assert loss(fit_temperature(logits, targets)) <= min(map(loss, grid)) + 1e-9


def test_a_network_that_is_always_right_stays_within_bounds():
    logits = 0.3 * np.eye(5)
    assert 0.05 <= fit_temperature(logits, np.arange(5)) < 0.06
    assert 19 < fit_temperature(logits, (np.arange(5) + 1) % 5) <= 20
