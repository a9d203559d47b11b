"""A run beside the recorded one: some facts must be the same, the others may differ by a measured spread."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from manet_lib.params import Params
from manet_lib.paths import RunPaths
from manet_lib.report import agreement
from manet_lib.report.agreement import Spread, exact_table, measured_table, spreads, verdict


def test_spread_is_pooled_over_models() -> None:
    repeats = {
        "accuracy resnet50": [60.0, 64.0, 62.0],
        "accuracy resnet50_ma": [70.0, 78.0],
        "in_lungs resnet50": [30.0],
        "iou": [90.0, 91.0],
    }
    found = spreads(repeats)
    assert set(found) == {"accuracy", "gain", "iou"}  # one training has no spread
    assert found["accuracy"].freedom == 3
    assert found["accuracy"].deviation == pytest.approx(np.sqrt((2 * 4 + 32) / 3))
    assert found["gain"].deviation == pytest.approx(np.sqrt(2) * found["accuracy"].deviation)


@pytest.mark.parametrize("trials", [2, 3, 5])
def test_tolerance_holds_the_difference_of_two_trainings_in_95_of_100_cases(trials: int) -> None:
    rng = np.random.default_rng(0)
    inside = []
    for _ in range(4000):
        values = rng.normal(70, 4, (3, trials + 2))
        known = spreads({f"accuracy {model}": row[:trials].tolist() for model, row in enumerate(values)})
        inside.append(abs(values[0, -1] - values[0, -2]) <= known["accuracy"].tolerance)
    assert np.mean(inside) == pytest.approx(0.95, abs=0.012)


def test_a_spread_known_from_many_trainings() -> None:
    assert Spread(2.0, 10_000).tolerance == pytest.approx(1.96 * np.sqrt(2) * 2, rel=1e-3)


RECORD: dict[str, Any] = {
    "facts": {"films": [3, 4], "split": "abc", "not of this run": 1},
    "measured": {"iou": 96.0, "accuracy resnet50": 60.0, "accuracy resnet50_ma": 75.0, "gain resnet50_ma": 15.0},
    "repeats": {
        "accuracy resnet50": [58.0, 62.0, 60.0],
        "accuracy resnet50_ma": [73.0, 75.0, 77.0],
        "iou": [96.0],
    },
}


def compare(monkeypatch: pytest.MonkeyPatch, paths: RunPaths, facts: Any, numbers: Any) -> list[pd.DataFrame]:
    monkeypatch.setattr(agreement, "facts", lambda *_: facts)
    monkeypatch.setattr(agreement, "measured", lambda *_: numbers)
    params = Params(profile="x")
    return [exact_table(params, paths, RECORD), measured_table(params, paths, RECORD)]


def test_a_run_that_agrees(monkeypatch: pytest.MonkeyPatch, paths: RunPaths) -> None:
    numbers = {"iou": 90.0, "accuracy resnet50": 64.0, "accuracy resnet50_ma": 71.0, "gain resnet50_ma": 7.0}
    exact, measured = compare(monkeypatch, paths, {"films": (3, 4), "split": "abc"}, numbers)
    assert exact["Same"].tolist() == [True, True]
    tolerance = 2.77645 * np.sqrt(2) * 2  # four degrees of freedom, standard deviation 2
    assert measured["Tolerance"].tolist() == [
        "–",  # nobody measured the spread of the IoU
        *2 * [f"{tolerance:.2f}"],
        f"{np.sqrt(2) * tolerance:.2f}",
    ]
    assert measured["Agrees"].tolist() == ["–", "yes", "yes", "yes"]
    assert measured["at half"].tolist() == ["–", "no", "no", "no"]
    assert "agrees with the recorded one" in verdict(exact, measured)


def test_a_run_that_does_not(monkeypatch: pytest.MonkeyPatch, paths: RunPaths) -> None:
    numbers = {"accuracy resnet50": 60.0, "accuracy resnet50_ma": 60.0}
    exact, measured = compare(monkeypatch, paths, {"films": (3, 4), "split": "abd"}, numbers)
    said = verdict(exact, measured)
    assert "does NOT agree" in said
    assert "split" in said
    assert "ResNet50(MA), test accuracy" in said
    assert "ResNet50, test accuracy" not in said
    assert measured.set_index("Number").loc["ResNet50(MA), test accuracy (%)", "at double"] == "yes"


def test_gains_are_of_models_with_attention_only() -> None:
    values = {"accuracy resnet50": 60.0, "accuracy resnet50_ma": 70.0, "accuracy vgg16_ma": 50.0, "iou": 90.0}
    assert agreement._gains(values) == {"gain resnet50_ma": 10.0}
