"""Sentences about tables, from tables written by hand."""

import pandas as pd
import pytest

from manet_lib.report import told
from manet_lib.report.quality import calibration_in_words


@pytest.mark.parametrize(
    ("cell", "way"),
    [
        ("+4.9 (+0.1 to +9.7)", 1),
        ("-4.9 (-9.7 to -0.1)", -1),
        ("+4.9 (-0.1 to +9.9)", 0),
        ("+3.8 (+0.0 to +7.5)", 0),
        ("10.00 to 20.00", 1),
        ("–", 0),
    ],
)
def test_a_cell_is_told_from_nothing_by_its_interval(cell: str, way: int) -> None:
    assert told.side(cell) == way


def faithful(deletion: str, road: str) -> pd.DataFrame:
    return pd.DataFrame({"Model": ["VGG16"], "Films": [5], "Deletion less random": [deletion], "ROAD": [road]})


def test_a_map_that_does_worse_than_chance_is_not_praised() -> None:
    up, down, none = "+2.0 (+1.0 to +3.0)", "-2.0 (-3.0 to -1.0)", "+0.0 (-1.0 to +1.0)"
    assert "For the map: VGG16, Deletion less random; VGG16, ROAD." in told.faithfulness_in_words(
        faithful(down, up)
    )
    against = told.faithfulness_in_words(faithful(up, down))
    assert "worse than chance: VGG16, Deletion less random; VGG16, ROAD." in against
    assert "For the map" not in against
    nothing = told.faithfulness_in_words(faithful(none, "–"))
    assert nothing == "Of the 2 differences 0 are told from 0 by their interval."


def test_what_training_adds_to_the_construction() -> None:
    table = pd.DataFrame(
        {
            "Model": ["VGG16", "VGG16(MA)"],
            "Trained": ["30.0", "50.0"],
            "Untrained": ["29.0", "40.0"],
            "Trained less untrained": ["+1.0 (-1.0 to +3.0)", "+10.0 (+8.0 to +12.0)"],
        }
    )
    plain, ma = told.learnt_in_words(table).split(". ")
    assert plain.startswith("VGG16 has 29.0%")
    assert plain.endswith("no change is told from 0")
    assert ma == "VGG16(MA) has 40.0% of its map in the lungs before any training and 50.0% after it: " + (
        "training has added to it."
    )


def test_scores_of_maps_beside_the_plain_network() -> None:
    row = {"Less plain": "VGG16(MA)", "lungs, covered": "-9.1 (-15.6 to -2.7)", "lesions, covered": "–"}
    said = told.pairs_in_words(pd.DataFrame([row]))
    assert said == "VGG16(MA): above the plain network in none. Below it in lungs, covered."


def test_networks_and_times_beside_the_plain_one() -> None:
    table = pd.DataFrame(
        {"Model": ["VGG16(MA)"], "Less plain (points)": ["-8.9"], "95% interval": ["-14.1 to -3.7"]}
    )
    assert told.networks_in_words(table) == "VGG16(MA) is worse than the plain one (-8.9 points, -14.1 to -3.7)."
    times = pd.DataFrame(
        {
            "Model": ["VGG16", "VGG16(MA)"],
            "Increase (%)": ["–", "8.21"],
            "95% interval": ["–", "-0.85 to 14.55"],
        }
    )
    assert told.times_in_words(times) == "Beside the plain network, VGG16(MA): +8.2%, not told from equal."
    assert told.times_in_words(times[:1]) == "No network with attention was timed beside its plain one."


def test_equal_confidence_and_accuracy_are_no_fault() -> None:
    row = {"Model": "VGG16", "Mean confidence": "0.80", "Accuracy": "0.80", "Calibration error": "0.05"}
    said = calibration_in_words(pd.DataFrame([row | {"By chance, at most": "0.09"}]))
    assert said == "VGG16 is as sure as it is right on average (error 0.05, no more than chance makes)."
