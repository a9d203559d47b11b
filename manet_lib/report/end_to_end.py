"""What changes when both stages are trained end to end: the recorded trainings of benchmarks/end_to_end.py."""

from __future__ import annotations

import numpy as np
import pandas as pd

from manet_lib.evaluation.statistics import student_interval
from manet_lib.paths import recorded_end_to_end

PAPERS_WAY = "two stages"
_MEANS = {
    "whole film": "stage 2 alone, on whole films",
    "two stages": "stage 1, then stage 2 (the paper)",
    "end to end": "both at once: Dice loss + cross entropy",
    "classes alone": "both at once: cross entropy alone",
}
_MEASURED = {
    "accuracy": "Right (%)",
    "without marks": "without marks (%)",
    "swapped marks": "swapped marks (%)",
    "iou": "IoU of the mask (%)",
    "mask": "Mask, share of the film (%)",
}


def recorded_trainings() -> pd.DataFrame:
    """One row a training: way, seed, accuracy on three tests, IoU, mask and lungs as shares of the film (%)."""
    return pd.read_csv(recorded_end_to_end() / "trainings.csv")


def end_to_end_table(trainings: pd.DataFrame) -> pd.DataFrame:
    """Mean over the seeds of each way of training and Student's 95% interval, as text; one row a way."""
    rows = []
    for way, means in _MEANS.items():
        chosen = trainings[trainings["way"] == way]
        row = {"Trained": means}
        for column, title in _MEASURED.items():
            mean, half = student_interval(chosen[column].to_numpy())
            row[title] = "–" if way == "whole film" and column in ("iou", "mask") else f"{mean:.1f} ± {half:.1f}"
        rows.append(row)
    return pd.DataFrame(rows)


def _pairs(trainings: pd.DataFrame, column: str, first: str, second: str) -> tuple[float, float]:
    """Mean difference of two ways over the seeds that both have, and half its interval."""
    wide = trainings.pivot(index="seed", columns="way", values=column)
    return student_interval((wide[first] - wide[second]).dropna().to_numpy())


def _kind(mean: float, half: float) -> str:
    if abs(mean) <= half:
        return "no difference that these trainings can tell from none"
    return "a gain" if mean > 0 else "a loss"


def in_words(trainings: pd.DataFrame) -> list[str]:
    """Sentences that say which differences hold over the seeds, for each against the paper's way."""
    seeds = trainings["seed"].nunique()
    sentences = []
    for way in ("end to end", "classes alone"):
        right, wide = _pairs(trainings, "accuracy", way, PAPERS_WAY)
        overlap, spread = _pairs(trainings, "iou", way, PAPERS_WAY)
        sentences.append(
            f"*{_MEANS[way]}*, against the two stages: {right:+.1f} ± {wide:.1f} points of accuracy, "
            f"{_kind(right, wide)}; {overlap:+.1f} ± {spread:.1f} points of the mask's IoU, "
            f"{_kind(overlap, spread)}."
        )
    falls = []
    for way in _MEANS:
        chosen = trainings[trainings["way"] == way]
        fall, half = student_interval((chosen["swapped marks"] - chosen["accuracy"]).to_numpy())
        falls.append(f"{fall:+.1f} ± {half:.1f} ({way})")
    sentences.append(f"With swapped marks accuracy changes by {', '.join(falls)} points.")
    lungs = float(np.mean(trainings["lungs"]))
    alone = float(trainings.loc[trainings["way"] == "classes alone", "mask"].mean())
    sentences.append(
        f"Without a drawn mask the mask covers {alone:.0f}% of the film, where lungs are {lungs:.0f}%: it is no "
        f"lung mask. All this over {seeds} seeds, each with films and first weights of its own."
    )
    return sentences
