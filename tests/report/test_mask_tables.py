"""What tables of masks say, beside numbers counted by hand."""

from __future__ import annotations

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
    assert drawn_in_words(table).startswith(
        "Two masks of one film, drawn by different rules, have a mean IoU of 77% (7 films). Stage 1 has 70% "
        "beside the masks of the other rule and 90% beside those of its own"
    )


def test_where_nothing_is_recorded_it_is_said() -> None:
    table = recorded_mask_scores("nothing-of-this-name")
    assert table.empty
    assert drawn_in_words(table).startswith("No masks of real films")


def test_the_recorded_table_of_real_films_has_both_rules() -> None:
    table = recorded_mask_scores("cxr_sample")
    assert {"drawn", "stage 1"} == set(table["Mask"])
    assert drawn_in_words(table)
