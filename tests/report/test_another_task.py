"""What changes end to end: means and intervals from training runs made by hand, and the recorded ones."""

import numpy as np
import pandas as pd
import pytest

from manet_lib.report.another_task import end_to_end_table, recorded_runs

WAYS = ("whole image", "two stages", "end to end", "classes alone")


@pytest.fixture
def runs():
    """Three seeds in which end to end is 2, 3 and 4 points better, and classes alone 1 better, 0 and 1 worse."""
    gains = {
        "whole image": (0, 0, 0),
        "two stages": (0, 0, 0),
        "end to end": (2, 3, 4),
        "classes alone": (1, 0, -1),
    }
    rows = [
        {
            "way": way,
            "seed": seed,
            "accuracy": 80 + 5 * seed + gains[way][seed],
            "without markers": 80,
            "swapped markers": 80 + 5 * seed + gains[way][seed] - (10, 10, 10)[seed] * (way == "whole image"),
            "iou": {"two stages": 95, "end to end": 70 + seed}.get(way, 25),
            "mask": 60 if way == "classes alone" else 30,
            "lungs": 25,
        }
        for way in WAYS
        for seed in range(3)
    ]
    return pd.DataFrame(rows)


def test_means_and_intervals_are_over_seeds(runs):
    table = end_to_end_table(runs).set_index("Trained")
    row = table.loc["stage 1, then stage 2 (the paper)"]
    assert row["Accuracy (%)"] == "85.0 ± 12.4"  # 80, 85, 90: 4.303 · 5/√3
    assert row["Without markers (%)"] == "80.0 ± 0.0"
    assert table.loc["stage 2 alone, on whole images", "IoU of the mask (%)"] == "–"


def test_recorded_runs_are_whole():
    found = recorded_runs()
    seeds = found.groupby("way")["seed"].apply(sorted)
    assert set(seeds.index) == set(WAYS)
    assert all(one == list(range(6)) for one in seeds)
    shares = found[["accuracy", "without markers", "swapped markers", "iou", "mask", "lungs"]]
    assert shares.stack().between(0, 100).all()
    whole = found[found["way"] == "whole image"]
    np.testing.assert_allclose(whole["mask"], 100)
    np.testing.assert_allclose(whole["iou"], whole["lungs"], atol=0.5)  # of ones: the lungs' share of each image
    assert found.groupby("seed")["lungs"].nunique().eq(1).all()  # the ways saw the same images
