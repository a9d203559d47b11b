"""What changes end to end: means, intervals and sentences from trainings made by hand, and the recorded ones."""

import numpy as np
import pandas as pd
import pytest

from manet_lib.report.end_to_end import end_to_end_table, in_words, recorded_trainings

WAYS = ("whole film", "two stages", "end to end", "classes alone")


@pytest.fixture
def trainings():
    """Three seeds in which end to end is 2, 3 and 4 points better, and classes alone 1 better, 0 and 1 worse."""
    gains = {
        "whole film": (0, 0, 0),
        "two stages": (0, 0, 0),
        "end to end": (2, 3, 4),
        "classes alone": (1, 0, -1),
    }
    rows = [
        {
            "way": way,
            "seed": seed,
            "accuracy": 80 + 5 * seed + gains[way][seed],
            "without marks": 80,
            "swapped marks": 80 + 5 * seed + gains[way][seed] - (10, 10, 10)[seed] * (way == "whole film"),
            "iou": {"two stages": 95, "end to end": 70 + seed}.get(way, 25),
            "mask": 60 if way == "classes alone" else 30,
            "lungs": 25,
        }
        for way in WAYS
        for seed in range(3)
    ]
    return pd.DataFrame(rows)


def test_means_and_intervals_are_over_seeds(trainings):
    table = end_to_end_table(trainings).set_index("Trained")
    row = table.loc["stage 1, then stage 2 (the paper)"]
    assert row["Right (%)"] == "85.0 ± 12.4"  # 80, 85, 90: 4.303 · 5/√3
    assert row["without marks (%)"] == "80.0 ± 0.0"
    assert table.loc["stage 2 alone, on whole films", "IoU of the mask (%)"] == "–"


def test_sentences_compare_seed_by_seed(trainings):
    both, alone, marks, mask = in_words(trainings)
    assert "+3.0 ± 2.5 points of accuracy, a gain" in both  # though the ways differ less than the seeds do
    assert "points of the mask's IoU, a loss" in both
    assert "+0.0 ± 2.5 points of accuracy, no difference" in alone
    assert "-10.0 ± 0.0 (whole film)" in marks
    assert "+0.0 ± 0.0 (two stages)" in marks
    assert "covers 60% of the film, where lungs are 25%" in mask
    assert "3 seeds" in mask


def test_recorded_trainings_are_whole():
    found = recorded_trainings()
    seeds = found.groupby("way")["seed"].apply(sorted)
    assert set(seeds.index) == set(WAYS)
    assert all(one == list(range(6)) for one in seeds)
    shares = found[["accuracy", "without marks", "swapped marks", "iou", "mask", "lungs"]]
    assert shares.stack().between(0, 100).all()
    whole = found[found["way"] == "whole film"]
    np.testing.assert_allclose(whole["mask"], 100)
    np.testing.assert_allclose(whole["iou"], whole["lungs"], atol=0.5)  # of ones: the lungs' share of each film
    assert found.groupby("seed")["lungs"].nunique().eq(1).all()  # the ways saw the same films
