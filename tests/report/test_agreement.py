"""A run beside the recorded one: some facts must be the same, the others may differ by a measured spread."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from manet_lib.params import Params
from manet_lib.paths import RunPaths
from manet_lib.report import agreement
from manet_lib.report.agreement import (
    LEAST_TOLERANCE,
    exact_table,
    measured_table,
    other_settings,
    tolerances,
    verdict,
)


@pytest.mark.parametrize("trials", [2, 3, 10])
def test_tolerance_holds_the_difference_of_two_runs_in_95_of_100_cases(trials: int) -> None:
    rng = np.random.default_rng(0)
    inside = []
    for values in rng.normal(70, 4, (20_000, trials + 2)):
        known = tolerances({"iou": values[:trials].tolist()})
        inside.append(abs(values[-1] - values[-2]) <= known["iou"])
    assert np.mean(inside) == pytest.approx(0.95, abs=0.006)


def test_what_stage_2_makes_may_differ_by_what_another_stage_1_changes() -> None:
    assert tolerances({"accuracy resnet50": [60.0, 60.1, 60.2]}) == {"accuracy resnet50": LEAST_TOLERANCE}


def test_one_training_run_has_no_tolerance() -> None:
    assert tolerances({"iou": [96.0], "accuracy resnet50": [60.0, 62.0]}).keys() == {"accuracy resnet50"}


RECORD: dict[str, Any] = {
    "facts": {"images": [3, 4], "split": "abc", "not of this run": 1},
    "measured": {"iou": 96.0, "accuracy resnet50": 60.0, "accuracy resnet50_ma": 75.0, "gain resnet50_ma": 15.0},
    "repeats": {
        "accuracy resnet50": [58.0, 62.0, 60.0],
        "accuracy resnet50_ma": [73.0, 75.0, 77.0],
        "gain resnet50_ma": [13.0, 15.0, 17.0],
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
    exact, measured = compare(monkeypatch, paths, {"images": (3, 4), "split": "abc"}, numbers)
    assert exact["Same"].tolist() == [True, True]
    tolerance = 4.30265 * np.sqrt(2) * 2  # two degrees of freedom, standard deviation 2
    assert measured["Tolerance"].tolist() == ["–", *3 * [f"{tolerance:.2f}"]]  # the spread of the IoU is unknown
    assert measured["Agrees"].tolist() == ["–", "yes", "yes", "yes"]
    assert measured["Agrees at half the tolerance"].tolist() == ["–", "yes", "yes", "no"]
    assert "agrees with the recorded one" in verdict(exact, measured)


def test_a_run_that_does_not(monkeypatch: pytest.MonkeyPatch, paths: RunPaths) -> None:
    numbers = {"accuracy resnet50": 60.0, "accuracy resnet50_ma": 40.0}
    exact, measured = compare(monkeypatch, paths, {"images": (3, 4), "split": "abd"}, numbers)
    said = verdict(exact, measured)
    assert "does NOT agree" in said
    assert "split" in said
    assert "ResNet50(MA), test accuracy" in said
    assert "ResNet50, test accuracy" not in said


@pytest.mark.parametrize(("outside", "agrees"), [(0, True), (3, True), (4, False)])
def test_of_eighteen_numbers_as_many_lie_outside_as_chance_explains(outside: int, agrees: bool) -> None:
    table = pd.DataFrame(
        {
            "Number": [str(number) for number in range(18)],
            "Tolerance": "1",
            "Agrees at double the tolerance": "yes",
        }
    )
    table["Agrees"] = ["no"] * outside + ["yes"] * (18 - outside)
    exact = pd.DataFrame({"Fact": ["split"], "Same": [True]})
    shown = table.assign(Recorded="1", **{"This run": "2"})
    assert ("does NOT agree" not in verdict(exact, shown)) is agrees
    shown.loc[0, ["Agrees", "Agrees at double the tolerance"]] = "no"
    assert "does NOT agree" in verdict(exact, shown)


def test_gains_are_of_models_with_attention_only() -> None:
    accuracy = {"resnet50": {1: 60.0, 2: 62.0}, "resnet50_ma": {1: 70.0, 2: 71.0}, "vgg16_ma": {1: 50.0}}
    assert agreement._gains(accuracy) == {"gain resnet50_ma": [10.0, 9.0]}


def test_gains_are_of_the_same_trials() -> None:
    accuracy = {"resnet50": {1: 60.0, 3: 90.0}, "resnet50_ma": {1: 70.0, 2: 71.0}}
    assert agreement._gains(accuracy) == {"gain resnet50_ma": [10.0]}


def test_settings_that_a_record_lacks_had_their_defaults(paths: RunPaths) -> None:
    params = Params(profile="x", models=["resnet34"])
    record = {"parameters": {"models": ["resnet34"], "epochs": params.epochs}}
    assert other_settings(params, paths, record) == []
    other = params.model_copy(update={"mask_attention": "residual", "threads": 3})
    assert other_settings(other, paths, record) == ["mask_attention"]
