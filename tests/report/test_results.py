"""Networks in pairs: the paper's printed trials, and a run's predictions counted by hand."""

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from manet_lib.evaluation.paired import images_needed
from manet_lib.params import Params
from manet_lib.paths import RunPaths
from manet_lib.report import results
from manet_lib.report.results import (
    needed_to_see_the_papers_gains,
    paired_table,
    printed_gains_of_the_paper,
    stability_table,
    what_the_paper_shows,
)
from manet_lib.report.tables import format_p, published, right_by_trial


def test_the_papers_gains_with_their_intervals() -> None:
    table = printed_gains_of_the_paper().set_index("Network")["Gain of MA"]
    assert table.to_dict() == {
        "ResNet34": "+0.25 ± 1.86",
        "ResNet50": "+0.24 ± 2.74",
        "VGG16": "+1.23 ± 2.01",
        "Inceptionv3": "+0.64 ± 3.84",
    }


def test_what_three_trials_can_carry() -> None:
    each, networks, permutation = what_the_paper_shows()
    assert each.endswith("differs significantly from 0 in 0 of 4 networks")  # as the test above prints them
    assert "t = 2.53, p = 0.085, 3 degrees of freedom" in networks
    assert "below 0.10" in permutation


def test_what_it_would_take_to_see_the_papers_gains() -> None:
    table = needed_to_see_the_papers_gains().set_index("Network")
    assert table["Gain (points)"].to_dict() == {
        "ResNet34": "0.25",
        "ResNet50": "0.24",
        "VGG16": "1.23",
        "Inceptionv3": "0.64",
    }
    assert int(table.loc["ResNet50", "Test images"].replace(",", "")) == images_needed(0.73 / 300, 0.05)
    trials = int(table.loc["Inceptionv3", "Trials"])
    printed = published("table2_test_accuracy").set_index("model")[["trial1", "trial2", "trial3"]].astype(float)
    gains = (printed.loc["inceptionv3_ma"] - printed.loc["inceptionv3"]).to_numpy()
    rng = np.random.default_rng(0)
    drawn = rng.normal(gains.mean(), gains.std(ddof=1), (4000, trials))
    seen = scipy.stats.ttest_1samp(drawn, 0, axis=1).pvalue < 0.05
    assert 0.78 <= seen.mean() <= 0.83


LABELS = ["a", "a", "b", "b", "b", "a"]


@pytest.fixture
def predicted(paths: RunPaths, monkeypatch: pytest.MonkeyPatch) -> Params:
    """Two models in two trials on six images of four patients, the second trial of one missing."""
    images = [f"image{number}" for number in range(6)]
    manifest = pd.DataFrame({"image_id": images, "patient": ["p", "p", "q", "", "", "r"], "split": "test"})
    paths.manifest.parent.mkdir(parents=True)
    manifest.to_csv(paths.manifest, index=False)
    guesses = {
        ("resnet50", 1): "abbaab",
        ("resnet50", 2): "aabbba",
        ("resnet50_ma", 1): "aabbaa",
        ("resnet34", 1): "aabbba",
    }
    for (model, trial), text in guesses.items():
        file = paths.predictions(model, trial)
        file.parent.mkdir(parents=True)
        table = pd.DataFrame({"image_id": images, "split": "test", "label": LABELS, "predicted": list(text)})
        table.sample(frac=1, random_state=trial).to_csv(file, index=False)
    monkeypatch.setattr(results, "trained_models", lambda *_: list(guesses))
    return Params(profile="test", models=["resnet34", "resnet50", "resnet50_ma"], trials=2)


@pytest.mark.usefixtures("predicted")
def test_images_are_put_in_one_order_and_nobodys_stay_apart(paths: RunPaths) -> None:
    right, patients = right_by_trial(paths, "resnet50", [1, 2])
    np.testing.assert_array_equal(right, [[1, 0, 1, 0, 0, 0], [1, 1, 1, 1, 1, 1]])
    assert patients == ["p", "p", "q", "image3", "image4", "r"]


def test_models_are_paired_with_their_plain_one_in_the_trials_that_both_have(
    predicted: Params, paths: RunPaths
) -> None:
    (row,) = paired_table(predicted, paths).to_dict("records")
    assert row["Model"] == "ResNet50(MA)"
    assert row["Minus plain (points)"] == "+50.0"
    assert row["Images right with attention alone, plain alone"] == "3, 0"
    assert row["p"] == "0.250"
    assert row["Trials won"] == "1 of 1"


def test_p_values_are_adjusted_over_all_rows(predicted: Params, paths: RunPaths) -> None:
    predicted = predicted.model_copy(update={"models": ["resnet50_ma", "resnet50_ma"]})
    assert paired_table(predicted, paths)["p"].tolist() == ["0.500", "0.500"]


def test_no_probability_is_printed_as_nothing() -> None:
    assert [format_p(p) for p in (1.0, 0.0456, 0.001, 0.00099, 1e-9)] == [
        "1.000",
        "0.046",
        "0.001",
        "<0.001",
        "<0.001",
    ]


def test_jumps_are_those_of_the_last_quarter(monkeypatch: pytest.MonkeyPatch, paths: RunPaths) -> None:
    accuracy = [0.1, 0.9, 0.1, 0.9, 0.1, 0.9, 0.50, 0.52, 0.50]
    log = pd.DataFrame({"val_accuracy": accuracy, "val_loss": 1.0})
    monkeypatch.setattr(results, "logs", lambda *_: {("vgg16", 1): log, ("vgg16", 2): log})
    row = stability_table(Params(profile="x"), paths).iloc[0]
    assert row.to_list() == ["VGG16", 2, pytest.approx(100 * np.std([0.02, -0.02], ddof=1), abs=1e-3), 0]
