"""Notebook 12: what changes when both stages are trained end to end; recorded training runs."""

import pandas as pd

from manet_lib.evaluation.statistics import student_interval
from manet_lib.paths import recorded_results

_MEANS = {
    "whole image": "stage 2 alone, on whole images",
    "two stages": "stage 1, then stage 2 (the paper)",
    "end to end": "both at once: Dice loss + cross entropy",
    "classes alone": "both at once: cross entropy alone",
}

_MEASURED = {
    "accuracy": "Accuracy (%)",
    "without markers": "Without markers (%)",
    "swapped markers": "Swapped markers (%)",
    "iou": "IoU of the mask (%)",
    "mask": "Mask, share of the image (%)",
}


def recorded_runs() -> pd.DataFrame:
    """One row for each training run: way, seed, accuracy on three tests, IoU, mask and lungs (% of the image)."""
    return pd.read_csv(recorded_results("end_to_end") / "runs.csv")


def end_to_end_table(runs: pd.DataFrame) -> pd.DataFrame:
    """Mean over the seeds of each way of training and Student's 95% interval, as text; one row a way."""
    rows = []
    for way, means in _MEANS.items():
        chosen = runs[runs["way"] == way]
        row = {"Trained": means}
        for column, title in _MEASURED.items():
            mean, half = student_interval(chosen[column].to_numpy())
            row[title] = "–" if way == "whole image" and column in ("iou", "mask") else f"{mean:.1f} ± {half:.1f}"
        rows.append(row)
    return pd.DataFrame(rows)
