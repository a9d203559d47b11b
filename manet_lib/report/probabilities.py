"""Notebook 06: scores by class, ROC curves, calibration, and confusion over trials."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.metrics import roc_curve

from manet_lib.evaluation import scores
from manet_lib.evaluation.statistics import share_interval
from manet_lib.params import Params
from manet_lib.paths import RunPaths
from manet_lib.report.classification import confusion_of
from manet_lib.report.style import backbone_panels, draw_bounds, look_of, row_of_panels, styled
from manet_lib.report.tables import (
    Bounds,
    class_title,
    model_title,
    patients_of,
    predictions_of,
    trained_models,
    with_interval,
)


@dataclass(frozen=True)
class Predictions:
    """What one model predicts for the test images in all its trials.

    Attributes:
        actual: one-hot classes, bool (images, classes).
        probabilities: float (trials, images, classes).
        patients: of each image.
    """

    actual: NDArray[np.bool_]
    probabilities: NDArray[np.float64]
    patients: list[str]

    @property
    def predicted(self) -> NDArray[np.bool_]:
        """One-hot predictions, bool (trials, images, classes)."""
        classes = self.probabilities.shape[2]
        return np.eye(classes, dtype=bool)[self.probabilities.argmax(axis=2)]

    @property
    def confidence(self) -> NDArray[np.float64]:
        """Probability of the predicted class, (trials, images)."""
        return self.probabilities.max(axis=2)

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether the prediction is right, bool (trials, images)."""
        return np.asarray((self.predicted & self.actual).any(axis=2))

    def count(self, chosen: NDArray[np.bool_]) -> int:
        """Patients with one of the chosen images, bool (trials, images), of a mean trial; at least one."""
        patients = np.asarray(self.patients)
        return max(1, round(float(np.mean([len(set(patients[row])) for row in chosen]))))


def predictions(params: Params, paths: RunPaths, model: str) -> Predictions | None:
    """What a model says in all its trials; None where it has not been trained."""
    trials = [trial for name, trial in trained_models(params, paths) if name == model]
    if not trials:
        return None
    found = predictions_of(paths, model, trials).set_index("image_id").sort_index().groupby("trial")
    tables = [table for _, table in found]
    columns = [f"p_{label}" for label in params.classes]
    probabilities = np.stack([table[columns].to_numpy(np.float64) for table in tables])
    actual = tables[0]["label"].to_numpy()[:, None] == np.array(params.classes)
    return Predictions(actual, probabilities, patients_of(paths, tables[0].index))


def _all_predictions(params: Params, paths: RunPaths) -> Iterator[tuple[str, Predictions]]:
    for model in params.models:
        found = predictions(params, paths, model)
        if found is not None:
            yield model, found


def _shown(bounds: Bounds) -> str:
    return "–" if np.isnan(bounds[0]) else with_interval(*bounds, ".2f")


def class_scores_table(params: Params, paths: RunPaths) -> pd.DataFrame:
    """Precision, recall, F1 and area under the ROC curve by class, over all trials, with 95% intervals."""
    rows = []
    for model, found in _all_predictions(params, paths):
        for number, label in enumerate(params.classes):
            of_class, predicted = found.actual[:, number], found.predicted[:, :, number]
            actual = np.tile(of_class, (len(predicted), 1))
            values = {
                "Precision": scores.precision_values(actual, predicted),
                "Recall": scores.recall_values(actual, predicted),
                "F1-score": scores.f1_values(actual, predicted),
                "AUC, one against the rest": scores.auc_values(of_class, found.probabilities[:, :, number]),
            }
            row = {"Model": model_title(model), "Class": class_title(label), "Images": int(of_class.sum())}
            for name, one in values.items():
                of = predicted if name == "Precision" else actual  # the images that the score is a share of
                row[name] = _shown(share_interval(one, found.patients, found.count(of))) if of.any() else "–"
            rows.append(row)
    return pd.DataFrame(rows)


def calibration_table(params: Params, paths: RunPaths) -> pd.DataFrame:
    """Whether probabilities can be believed: Brier score, expected calibration error, and what chance gives."""
    rows = []
    for model, found in _all_predictions(params, paths):
        error = scores.calibration_values(found.confidence, found.right).mean()
        chance = scores.calibration_by_chance(found.confidence)
        rows.append(
            {
                "Model": model_title(model),
                "Mean confidence": f"{found.confidence.mean():.2f}",
                "Accuracy": f"{found.right.mean():.2f}",
                "Brier score": _shown(scores.brier_interval(found.actual, found.probabilities, found.patients)),
                "Calibration error": f"{error:.2f}",
                "Error of true probabilities, 95th percentile": f"{chance:.2f}",
            }
        )
    return pd.DataFrame(rows)


def reliability(found: Predictions) -> pd.DataFrame:
    """Accuracy of the images in each bin of confidence.

    Returns:
        Columns confidence (mean of the bin), accuracy, low, high (95% interval), share (of all images, in [0, 1]);
        empty bins are left out.
    """
    bins, rows = scores.bin_of(found.confidence), []
    for number in range(scores.BINS):
        inside = (bins == number).astype(float)
        if not inside.any():
            continue
        trials = inside.any(axis=1)  # those that have images in this bin
        values = scores.ratio_values((inside * found.right)[trials], inside[trials])
        images = found.count(inside[trials] > 0)
        mean = float((found.confidence * inside).sum() / inside.sum())
        rows.append((mean, *share_interval(values, found.patients, images), float(inside.mean())))
    return pd.DataFrame(rows, columns=["confidence", "accuracy", "low", "high", "share"])


def confusions(params: Params, paths: RunPaths, model: str) -> NDArray[np.int64]:
    """Images by actual and predicted class in each trial of a model, (trials, classes, classes)."""
    trials = [trial for name, trial in trained_models(params, paths) if name == model]
    return np.stack([confusion_of(params, paths, model, trial).to_numpy() for trial in trials])


def confusion_over_trials(counts: NDArray[np.int64], classes: Sequence[str]) -> pd.DataFrame:
    """Table 5 over all trials of a model: mean number of images, and in brackets the least and the most.

    Args:
        counts: from :func:`confusions`.
        classes: their names.
    """
    form = "{:.1f} ({} to {})" if len(counts) > 1 else "{:.0f}"
    shown = np.vectorize(form.format)(counts.mean(axis=0), counts.min(axis=0), counts.max(axis=0))
    titles = [class_title(label) for label in classes]
    return pd.DataFrame(shown, index=pd.Index(titles, name="Actual"), columns=titles).reset_index()


@styled
def roc_figure(actual: NDArray[np.bool_], found: dict[str, NDArray[np.float64]], classes: Sequence[str]) -> Figure:
    """ROC curves of one backbone, plain and with attention: a panel for each class, a line for each trial.

    Args:
        actual: one-hot classes, bool (images, classes).
        found: of each model, probabilities (trials, images, classes).
        classes: their names.
    """
    figure, panels = row_of_panels(len(classes), 1.75, 2.1, sharey=True)
    for number, (axes, label) in enumerate(zip(panels, classes, strict=True)):
        axes.plot([0, 1], [0, 1], color="grey", linewidth=0.7, linestyle=":")
        for model, probabilities in found.items():
            for trial, one in enumerate(probabilities):
                if 0 < actual[:, number].sum() < len(actual):
                    false, true, _ = roc_curve(actual[:, number], one[:, number], drop_intermediate=False)
                    look = look_of(model) | ({"label": None} if trial else {})
                    axes.plot(false, true, linewidth=1, **look)
        axes.set(title=class_title(label), aspect="equal", xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
    panels[0].set_ylabel("true positives (share)")
    panels[len(classes) // 2].set_xlabel("false positives (share)")
    panels[-1].legend(frameon=False, loc="lower right", fontsize=8)
    return figure


@styled
def reliability_figure(tables: dict[str, pd.DataFrame]) -> Figure:
    """Accuracy of the images in each bin of confidence, with 95% intervals; below the diagonal a model is too
    sure.

    Args:
        tables: of each model, from :func:`manet_lib.report.probabilities.reliability`.
    """
    figure, panels = backbone_panels(list(tables), 3.1, 2.9, "accuracy")
    for model, table in tables.items():
        base, _, kind = model.partition("_")
        places = table["confidence"] + {"": 0, "ma": 0.008, "cbam": -0.008}[kind]  # bars side by side
        draw_bounds(panels[base], places, table, model, markersize=3, linewidth=1, elinewidth=0.7)
    for axes in panels.values():
        axes.plot([0, 1], [0, 1], color="grey", linewidth=0.7, linestyle=":")
        axes.set(xlabel="confidence", xlim=(0.15, 1.02), ylim=(0, 1.02))
        axes.legend(frameon=False, loc="upper left")
    return figure
