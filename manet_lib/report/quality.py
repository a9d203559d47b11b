"""What accuracy does not say of a network: scores by class, ROC, calibration, and confusion over trials."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from manet_lib.evaluation.scores import (
    BINS,
    auc_values,
    bin_of,
    brier_values,
    calibration_by_chance,
    calibration_values,
    f1_values,
    precision_values,
    ratio_values,
    recall_values,
)
from manet_lib.evaluation.statistics import crossed_interval, share_interval
from manet_lib.params import Params
from manet_lib.paths import RunPaths
from manet_lib.report.tables import class_title, confusion_of, model_title, patients_of, trained_models
from manet_lib.training.classification import read_predictions


@dataclass(frozen=True)
class Answers:
    """What one model says of the test films in all its trials.

    Attributes:
        actual: one-hot classes, bool (films, classes).
        probabilities: float (trials, films, classes).
        patients: of each film.
    """

    actual: NDArray[np.bool_]
    probabilities: NDArray[np.float64]
    patients: list[str]

    @property
    def predicted(self) -> NDArray[np.bool_]:
        """One-hot predictions, bool (trials, films, classes)."""
        classes = self.probabilities.shape[2]
        return np.eye(classes, dtype=bool)[self.probabilities.argmax(axis=2)]

    @property
    def confidence(self) -> NDArray[np.float64]:
        """Probability of the predicted class, (trials, films)."""
        return self.probabilities.max(axis=2)

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether the prediction is right, bool (trials, films)."""
        return np.asarray((self.predicted & self.actual).any(axis=2))

    def count(self, chosen: NDArray[np.bool_]) -> int:
        """Patients with one of the chosen films, bool (trials, films), of a mean trial; at least one."""
        patients = np.asarray(self.patients)
        return max(1, round(float(np.mean([len(set(patients[row])) for row in chosen]))))


def answers(params: Params, paths: RunPaths, model: str) -> Answers | None:
    """What a model says in all its trials; None where it has not been trained."""
    trials = [trial for name, trial in trained_models(params, paths) if name == model]
    found = [read_predictions(paths, model, trial) for trial in trials]
    tables = [table.set_index("image_id").sort_index() for table in found if table is not None]
    if not tables:
        return None
    columns = [f"p_{label}" for label in params.classes]
    probabilities = np.stack([table[columns].to_numpy(np.float64) for table in tables])
    actual = tables[0]["label"].to_numpy()[:, None] == np.array(params.classes)
    return Answers(actual, probabilities, patients_of(paths, tables[0].index))


def _all_answers(params: Params, paths: RunPaths) -> Iterator[tuple[str, Answers]]:
    for model in params.models:
        found = answers(params, paths, model)
        if found is not None:
            yield model, found


def _shown(bounds: tuple[float, float, float]) -> str:
    return "–" if np.isnan(bounds[0]) else f"{bounds[0]:.2f} ({bounds[1]:.2f} to {bounds[2]:.2f})"


def class_scores_table(params: Params, paths: RunPaths) -> pd.DataFrame:
    """Precision, recall, F1 and area under the ROC curve by class, over all trials, with 95% intervals."""
    rows = []
    for model, found in _all_answers(params, paths):
        trials = len(found.probabilities)
        for number, label in enumerate(params.classes):
            actual = np.tile(found.actual[:, number], (trials, 1))
            predicted = found.predicted[:, :, number]
            values = {
                "Precision": precision_values(actual, predicted),
                "Recall": recall_values(actual, predicted),
                "F1-score": f1_values(actual, predicted),
                "AUC, one against the rest": auc_values(
                    found.actual[:, number], found.probabilities[:, :, number]
                ),
            }
            row: dict[str, Any] = {"Model": model_title(model), "Class": class_title(label)}
            row["Films"] = int(found.actual[:, number].sum())
            for name, one in values.items():
                of = predicted if name == "Precision" else actual  # the films that the score is a share of
                row[name] = _shown(share_interval(one, found.patients, found.count(of))) if of.any() else "–"
            rows.append(row)
    return pd.DataFrame(rows)


def calibration_table(params: Params, paths: RunPaths) -> pd.DataFrame:
    """Whether probabilities can be believed: Brier score, expected calibration error, and what chance gives."""
    rows = []
    for model, found in _all_answers(params, paths):
        error = calibration_values(found.confidence, found.right).mean()
        rows.append(
            {
                "Model": model_title(model),
                "Mean confidence": f"{found.confidence.mean():.2f}",
                "Accuracy": f"{found.right.mean():.2f}",
                "Brier score": _shown(
                    crossed_interval(brier_values(found.actual, found.probabilities), found.patients)
                ),
                "Calibration error": f"{error:.2f}",
                "By chance, at most": f"{calibration_by_chance(found.confidence):.2f}",
            }
        )
    return pd.DataFrame(rows)


def reliability(found: Answers) -> pd.DataFrame:
    """Accuracy of the films in each bin of confidence.

    Returns:
        Columns confidence (mean of the bin), accuracy, low, high (95% interval), share (of all films, in [0, 1]);
        empty bins are left out.
    """
    bins, rows = bin_of(found.confidence), []
    for number in range(BINS):
        inside = (bins == number).astype(float)
        if not inside.any():
            continue
        trials = inside.any(axis=1)  # those that have films in this bin
        values = ratio_values((inside * found.right)[trials], inside[trials])
        films = found.count(inside[trials] > 0)
        mean = float((found.confidence * inside).sum() / inside.sum())
        rows.append((mean, *share_interval(values, found.patients, films), float(inside.mean())))
    return pd.DataFrame(rows, columns=["confidence", "accuracy", "low", "high", "share"])


def roc_areas(found: Mapping[str, Answers], classes: Sequence[str]) -> pd.DataFrame:
    """Area under the ROC curve of each class (columns) against the rest by model (rows), mean over trials.

    NaN for a class that no test film has, or all have.
    """
    areas = [
        [
            auc_values(one.actual[:, number], one.probabilities[:, :, number]).mean()
            for number in range(len(classes))
        ]
        for one in found.values()
    ]
    return pd.DataFrame(areas, index=list(found), columns=list(classes))


def confusions(params: Params, paths: RunPaths, model: str) -> NDArray[np.int64]:
    """Films by actual and predicted class in each trial of a model, (trials, classes, classes)."""
    trials = [trial for name, trial in trained_models(params, paths) if name == model]
    return np.stack([confusion_of(params, paths, model, trial).to_numpy() for trial in trials])


def confusion_over_trials(counts: NDArray[np.int64], classes: Sequence[str]) -> pd.DataFrame:
    """Table 5 over all trials of a model: mean number of films, and in brackets the least and the most.

    Args:
        counts: from :func:`confusions`.
        classes: their names.
    """
    titles = [class_title(label) for label in classes]
    mean, least, most = counts.mean(axis=0), counts.min(axis=0), counts.max(axis=0)
    table = pd.DataFrame({"Actual": titles})
    for column, title in enumerate(titles):
        table[title] = [
            f"{mean[row, column]:.1f} ({least[row, column]} to {most[row, column]})"
            if len(counts) > 1
            else f"{mean[row, column]:.0f}"
            for row in range(len(titles))
        ]
    return table


def calibration_in_words(table: pd.DataFrame) -> str:
    """Which networks are too sure or not sure enough, and whether chance would explain it, in a sentence for each.

    Args:
        table: from :func:`calibration_table`.
    """
    said = []
    for row in table.to_dict("records"):
        confidence, accuracy = float(row["Mean confidence"]), float(row["Accuracy"])
        side = "too sure" if confidence > accuracy else "not sure enough"
        side = "as sure as it is right on average" if confidence == accuracy else side
        error, chance = float(row["Calibration error"]), float(row["By chance, at most"])
        reason = "more than chance makes" if error > chance else "no more than chance makes"
        said.append(f"{row['Model']} is {side} (error {error:.2f}, {reason}).")
    return " ".join(said)
