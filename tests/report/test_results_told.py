"""Sentences about the tables and curves of results, against what is counted by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from manet_lib.report import results_told as told
from manet_lib.report.comparison import needed_to_see_the_papers_gains


def accuracy(*rows: tuple[str, str, str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["Model", "Average (%)", "95% interval"])


def test_best_and_worst_model_and_the_width_of_intervals() -> None:
    best, worst = ("VGG16", "90.00", "80.0 to 95.0"), ("ResNet34", "61.25", "50.0 to 72.5")
    assert told.accuracy_in_words(accuracy(worst, best)) == (
        "Highest: VGG16, 90.0%; lowest: ResNet34, 61.2%. The intervals are 15.0 to 22.5 points wide."
    )
    assert told.accuracy_in_words(accuracy(best, ("ResNet50", "–", "–"))) == (
        "Highest: VGG16, 90.0%. The intervals are 15.0 points wide."
    )
    assert told.accuracy_in_words(accuracy(("VGG16", "–", "–"))) == "No model is trained."


def test_what_the_papers_films_and_trials_are_enough_for() -> None:
    table = pd.DataFrame({"Network": ["VGG16", "ResNet34"], "Test films": ["680", "64,498"], "Trials": ["4", "9"]})
    films, trials = told.needed_in_words(table).split(". ")
    assert films == (
        "The paper's 680 test films are enough for 1 of 2 networks; the least needed is 680 (VGG16), "
        "the most 64,498"
    )
    assert trials.startswith("The paper's 3 trials are enough for 0 of 2 networks; the least needed is 4 (VGG16)")
    assert told.needed_in_words(needed_to_see_the_papers_gains()).count("enough for 0 of 4 networks") == 2


@pytest.mark.parametrize(
    ("precision", "recall", "reason"),
    [
        ("0.90", "0.40", "its films are missed"),
        ("0.40", "0.90", "other films are taken for it"),
        ("0.50", "0.50", "as many of its films are missed as others are taken for it"),
    ],
)
def test_the_worst_class_and_what_it_lacks(precision: str, recall: str, reason: str) -> None:
    rows = [("TB", "1.00", "0.98", "0.99"), ("VP", precision, recall, "0.55"), ("Weighted average", "0", "0", "0")]
    text = told.report_in_words(pd.DataFrame(rows, columns=["Class", "Precision", "Recall", "F1-score"]))
    assert text == (
        f"F1 is highest for TB (0.99) and lowest for VP (0.55), with precision {precision} and recall {recall}: "
        f"{reason}."
    )


def test_the_class_that_each_model_finds_least_often() -> None:
    rows = [
        ("VGG16", "TB", "0.80 (0.70 to 0.90)", "0.95 (0.90 to 0.99)"),
        ("VGG16", "VP", "0.20 (0.10 to 0.30)", "0.85 (0.80 to 0.90)"),
        ("VGG16", "BP", "–", "–"),
        ("VGG16(MA)", "TB", "0.10 (0.00 to 0.20)", "0.70 (0.60 to 0.80)"),
        ("VGG16(MA)", "VP", "0.90 (0.80 to 1.00)", "0.99 (0.90 to 1.00)"),
    ]
    columns = ["Model", "Class", "Recall", "AUC, one against the rest"]
    assert told.class_scores_in_words(pd.DataFrame(rows, columns=columns)) == (
        "VGG16 finds VP least often (recall 0.20, AUC 0.85). "
        "VGG16(MA) finds TB least often (recall 0.10, AUC 0.70)."
    )


def test_areas_under_curves() -> None:
    areas = pd.DataFrame(
        {"tb": [0.9, 0.95], "vp": [0.8, 0.75], "bp": [np.nan, np.nan]}, index=["vgg16", "vgg16_ma"]
    )
    assert told.areas_in_words(areas) == (
        "Areas under the curves, mean over trials: TB VGG16 0.90, VGG16(MA) 0.95; VP VGG16 0.80, VGG16(MA) 0.75. "
        "Largest: TB by VGG16(MA); smallest: VP by VGG16(MA)."
    )
    assert "no curve" in told.areas_in_words(areas[["bp"]])


def test_what_varies_most_from_trial_to_trial() -> None:
    counts = np.array([[[5, 1], [2, 8]], [[6, 0], [7, 3]], [[5, 1], [4, 6]]])
    assert told.trials_in_words(counts, ["tb", "vp"]) == (
        "What varies most over the 3 trials: VP films called TB, 2 to 7."
    )
    assert "one trial" in told.trials_in_words(counts[:1], ["tb", "vp"])


def test_curves_are_means_over_trials() -> None:
    logs = {
        ("vgg16", 1): pd.DataFrame({"val_accuracy": [0.1, 0.8, 0.5, 0.6]}),
        ("vgg16", 2): pd.DataFrame({"val_accuracy": [0.3, 0.6, 0.5, 0.8]}),
        ("vgg16_ma", 1): pd.DataFrame({"val_accuracy": [0.2, 0.3, 0.3, 0.9]}),
    }
    assert told.curves_in_words(logs, 40) == (
        "VGG16 goes from 20% to 70% and falls by 20 points at most, after epoch 2. "
        "VGG16(MA) goes from 20% to 90%. "
        "One of the 40 validation films is 2.5 points."
    )


def test_jumps_and_how_many_there_are() -> None:
    table = pd.DataFrame({"Model": ["VGG16", "VGG16(MA)"], "Accuracy (points)": [9.0, 4.25]})
    few = told.stability_in_words(table, 8)
    assert few.startswith("VGG16(MA) jumps least (4.2 points), VGG16 most (9.0).")
    assert "gives 2 jumps" in few  # the last three of eight epochs
    assert told.stability_in_words(table, 200).endswith("most (9.0).")
    assert told.stability_in_words(table[:1], 200) == "VGG16 jumps by 9.0 points."
    assert "too short" in told.stability_in_words(table.assign(**{"Accuracy (points)": np.nan}), 2)


def test_verdicts_and_steps_are_counted() -> None:
    verdicts = ["undecided: needs trials", "undecided: the interval holds the margin", "supported"]
    assert told.verdicts_in_words(pd.DataFrame({"Verdict": verdicts})) == "Of 3 claims: 2 undecided, 1 supported."
    steps = pd.DataFrame({"Step": ["store", "vgg16-1"], "Seconds": [30.0, 90.0]})
    assert told.steps_in_words(steps) == "Together 2 minutes; the longest step is vgg16-1, with 75% of them."
