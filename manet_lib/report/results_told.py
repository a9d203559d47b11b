"""What the tables and curves of notebook 06 show, in sentences that are computed from them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from manet_lib.report.tables import class_title, late_epochs, model_title, published
from manet_lib.report.told import bounds

_FEW = 15
"""From fewer jumps their standard deviation is known to a fifth of itself at best, 1/√(2(n - 1))."""


def accuracy_in_words(table: pd.DataFrame) -> str:
    """The best and the worst model of Table 2, and how wide the intervals are.

    Args:
        table: from :func:`manet_lib.report.tables.test_accuracy`; models that are not trained have no number.
    """
    done = table[table["Average (%)"] != "–"]
    if done.empty:
        return "No model is trained."
    average = done.set_index("Model")["Average (%)"].astype(float)
    found = [one for one in map(bounds, done["95% interval"]) if one is not None]
    widths = [high - low for low, high in found]
    said = [f"Highest: {average.idxmax()}, {average.max():.1f}%"]
    if len(average) > 1:
        said.append(f"lowest: {average.idxmin()}, {average.min():.1f}%")
    return f"{'; '.join(said)}. The intervals are {_range(min(widths), max(widths), '.1f')} points wide."


def _range(low: float, high: float, digits: str) -> str:
    one, other = format(low, digits), format(high, digits)
    return one if one == other else f"{one} to {other}"


def needed_in_words(table: pd.DataFrame) -> str:
    """How many of the paper's gains its own test films and trials could show.

    Args:
        table: from :func:`manet_lib.report.comparison.needed_to_see_the_papers_gains`.
    """
    printed = published("table1_distribution").set_index("set")
    films = int(printed.loc["test"].drop("total", errors="ignore").astype(int).sum())
    trials = int(published("table2_test_accuracy").columns.str.startswith("trial").sum())
    said = []
    for has, unit in ((films, "Test films"), (trials, "Trials")):
        needed = table.set_index("Network")[unit].str.replace(",", "").astype(int)
        enough, one = int((needed <= has).sum()), str(needed.idxmin())
        said.append(
            f"The paper's {has} {unit.lower()} are enough for {enough} of {len(needed)} networks; "
            f"the least needed is {needed.min():,} ({one}), the most {needed.max():,}."
        )
    return " ".join(said)


def report_in_words(table: pd.DataFrame) -> str:
    """The classes that Table 4 gives the highest and the lowest F1, and what the lowest lacks.

    Args:
        table: from :func:`manet_lib.report.tables.report_table`, its last row the average.
    """
    rows = table.iloc[:-1].set_index("Class")[["Precision", "Recall", "F1-score"]].astype(float)
    best, worst = rows["F1-score"].idxmax(), rows["F1-score"].idxmin()
    low = rows.loc[worst]
    lack = "its films are missed" if low["Recall"] < low["Precision"] else "other films are taken for it"
    lack = (
        "as many of its films are missed as others are taken for it" if low["Recall"] == low["Precision"] else lack
    )
    return (
        f"F1 is highest for {best} ({rows.loc[best, 'F1-score']:.2f}) and lowest for {worst} "
        f"({low['F1-score']:.2f}), with precision {low['Precision']:.2f} and recall {low['Recall']:.2f}: {lack}."
    )


def class_scores_in_words(table: pd.DataFrame) -> str:
    """The class that each model finds least often, and whether its probabilities order the films all the same.

    Args:
        table: from :func:`manet_lib.report.quality.class_scores_table`.
    """
    said = []
    for model, part in table[table["Recall"] != "–"].groupby("Model", sort=False):
        rows = part.set_index("Class")[["Recall", "AUC, one against the rest"]]
        recall, area = (rows[name].str.split().str[0].astype(float) for name in rows)
        worst = recall.idxmin()
        said.append(f"{model} finds {worst} least often (recall {recall[worst]:.2f}, AUC {area[worst]:.2f}).")
    return " ".join(said)


def areas_in_words(areas: pd.DataFrame) -> str:
    """The areas under the ROC curves of a figure, class by class, and the largest and the smallest.

    Args:
        areas: from :func:`manet_lib.report.quality.roc_areas`.
    """
    parts = [
        f"{class_title(str(label))} "
        + ", ".join(f"{model_title(str(model))} {area:.2f}" for model, area in column.items())
        for label, column in areas.items()
        if column.notna().all()
    ]
    if not parts:
        return "No class has films on both sides, so that there is no curve."
    flat = areas.stack()
    (best, easy), (worst, hard) = flat.idxmax(), flat.idxmin()
    return (
        f"Areas under the curves, mean over trials: {'; '.join(parts)}. Largest: {class_title(easy)} by "
        f"{model_title(best)}; smallest: {class_title(hard)} by {model_title(worst)}."
    )


def trials_in_words(counts: NDArray[np.int64], classes: list[str]) -> str:
    """Which number of a confusion matrix varies most from trial to trial.

    Args:
        counts: from :func:`manet_lib.report.quality.confusions`, (trials, classes, classes).
        classes: their names.
    """
    if len(counts) == 1:
        return "There is one trial, so nothing is averaged: these are the numbers of that trial."
    spread = counts.max(axis=0) - counts.min(axis=0)
    row, column = np.unravel_index(spread.argmax(), spread.shape)
    least, most = counts[:, row, column].min(), counts[:, row, column].max()
    actual, called = class_title(classes[int(row)]), class_title(classes[int(column)])
    return f"What varies most over the {len(counts)} trials: {actual} films called {called}, {least} to {most}."


def curves_in_words(logs: Mapping[tuple[str, int], pd.DataFrame], films: int) -> str:
    """Where the curves of Fig. 10 begin and end, and the largest fall of each from one epoch to the next.

    Args:
        logs: log of each (model, trial); the curve of a model is the mean over its trials, as in the figure.
        films: how many validation films there are.
    """
    said = []
    for model in dict.fromkeys(name for name, _ in logs):
        trials = [log["val_accuracy"].to_numpy() for (name, _), log in logs.items() if name == model]
        curve = 100 * np.mean(trials, axis=0)
        text = f"{model_title(model)} goes from {curve[0]:.0f}% to {curve[-1]:.0f}%"
        falls = -np.diff(curve)
        if len(falls) and falls.max() > 0:
            text += f" and falls by {falls.max():.0f} points at most, after epoch {int(falls.argmax()) + 1}"
        said.append(f"{text}.")
    return f"{' '.join(said)} One of the {films} validation films is {100 / films:.1f} points."


def stability_in_words(table: pd.DataFrame, epochs: int) -> str:
    """Whose validation accuracy jumps least and most late in training, and from how few jumps that is known.

    Args:
        table: from :func:`manet_lib.report.comparison.stability_table`.
        epochs: of a training.
    """
    jumps, count = table.set_index("Model")["Accuracy (points)"], late_epochs(epochs) - 1
    if jumps.isna().all():
        return "Trainings are too short for two jumps."
    said = f"{jumps.idxmin()} jumps least ({jumps.min():.1f} points), {jumps.idxmax()} most ({jumps.max():.1f})."
    if len(jumps) == 1:
        said = f"{jumps.index[0]} jumps by {jumps.iloc[0]:.1f} points."
    few = f" Each training gives {count} jumps, from which no more than an impression is to be had."
    return said + (few if count < _FEW else "")


def verdicts_in_words(table: pd.DataFrame) -> str:
    """How many claims a run supports, and how many it leaves open.

    Args:
        table: from :func:`manet_lib.report.claims.claims_table`.
    """
    counts = table["Verdict"].str.partition(":")[0].value_counts()
    return f"Of {len(table)} claims: " + ", ".join(f"{count} {name}" for name, count in counts.items()) + "."


def steps_in_words(table: pd.DataFrame) -> str:
    """How long a run took in all, and which step took longest.

    Args:
        table: from :func:`manet_lib.report.tables.steps_table`.
    """
    seconds = table.set_index("Step")["Seconds"].astype(float)
    longest = seconds.idxmax()
    return (
        f"Together {seconds.sum() / 60:.0f} minutes; the longest step is {longest}, with "
        f"{100 * seconds[longest] / seconds.sum():.0f}% of them."
    )
