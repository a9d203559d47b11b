"""What tables of masks say, beside numbers counted by hand."""

from __future__ import annotations

import re

import pandas as pd

from manet_lib.report.masks import drawn_in_words, recorded_mask_scores


def test_two_rules_of_drawing_are_set_beside_stage_1() -> None:
    table = pd.DataFrame(
        [
            ("test masks", "stage 1", "Normal", "3", "80.00 (1 to 2)"),
            ("test masks", "stage 1", "All films", "9", "90.40 (1 to 2)"),
            ("reference masks", "stage 1", "All films", "50", "69.60 (1 to 2)"),
            ("reference masks", "drawn", "All films", "7", "76.58 (1 to 2)"),
        ],
        columns=["Compared with", "Mask", "Class", "Films", "IoU (%)"],
    )
    assert re.findall(r"\d{2}(?=%)|\d+(?= films)", drawn_in_words(table)) == ["77", "7", "70", "50", "90", "9"]


def test_where_nothing_is_recorded_it_is_said() -> None:
    table = recorded_mask_scores("nothing-of-this-name")
    assert table.empty
    assert drawn_in_words(table).startswith("No masks of real films")


def test_the_recorded_table_of_real_films_has_both_rules() -> None:
    table = recorded_mask_scores("cxr_sample")
    assert {"drawn", "stage 1"} == set(table["Mask"])
    assert drawn_in_words(table)
