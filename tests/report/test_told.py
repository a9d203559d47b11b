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
            "Region": ["lungs", "lesions"],
            "Films": [20, 16],
            "Trained": ["30.0", "50.0"],
            "Untrained": ["29.0", "40.0"],
            "Another film's mask: in the region": ["20.0", "51.0"],
            "Trained less untrained": ["+1.0 (-1.0 to +3.0)", "+10.0 (+8.0 to +12.0)"],
            "Trained less another film's mask": ["+10.0 (+8.0 to +12.0)", "-1.0 (-2.0 to +1.0)"],
        }
    )
    plain, ma = told.learnt_in_words(table).splitlines()
    assert plain == (
        "- VGG16, lungs: 29.0% of the map before any training and 30.0% after it: no change is told from 0. With "
        "another film's mask 20.0%: less than with its own."
    )
    assert ma == (
        "- VGG16(MA), lesions: 40.0% of the map before any training and 50.0% after it: training has added to it. "
        "With another film's mask 51.0%: not told from that with its own."
    )


def test_scores_of_maps_beside_the_plain_network() -> None:
    row = {"Less plain": "VGG16(MA)", "lungs, covered": "-9.1 (-15.6 to -2.7)", "lesions, covered": "–"}
    said = told.pairs_in_words(pd.DataFrame([row]))
    assert said == "VGG16(MA): above the plain network in none. Below it in lungs, covered."


def by_source(*rows: tuple[str, str, str, str, str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["Model", "Class", "Source", "Films", "Accuracy (%)"])


def test_the_class_that_is_most_unequal_over_sources() -> None:
    rows = [
        ("VGG16", "TB", "north", "20", "90.0 (70.0 to 97.0)"),
        ("VGG16", "TB", "south", "9", "20.0 (5.0 to 45.0)"),
        ("VGG16", "TB", "east", "4", "0.0 (0.0 to 60.0)"),
        ("VGG16", "VP", "north", "10", "50.0 (20.0 to 80.0)"),
        ("VGG16", "VP", "south", "10", "60.0 (30.0 to 90.0)"),
    ]
    text = told.sources_in_words(by_source(*rows))
    assert text == (
        "VGG16 is most unequal in TB: 90% of 20 films from north, 20% of 9 films from south; intervals apart. "
        "Left out: 1 of 5 rows, of fewer than 5 films."
    )
    assert "intervals overlapping" in told.sources_in_words(by_source(*rows[3:]))
    assert told.sources_in_words(by_source(*rows[1:3])) == "Left out: 1 of 2 rows, of fewer than 5 films."
    assert told.sources_in_words(by_source()).startswith("Nothing to compare")


def test_networks_and_times_beside_the_plain_one() -> None:
    table = pd.DataFrame(
        {"Model": ["VGG16(MA)"], "Less plain (points)": ["-8.9"], "95% interval": ["-14.1 to -3.7"]}
    )
    assert (
        told.networks_in_words(table)
        == "As trained here, VGG16(MA) is worse than the plain one (-8.9 points, -14.1 to -3.7)."
    )
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
