"""Notebook 10: the same test images with other markers."""

from collections.abc import Iterator, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from manet_lib.evaluation.paired import compare
from manet_lib.evaluation.statistics import share_interval
from manet_lib.report.style import STYLE, colour_of
from manet_lib.report.tables import model_title, with_interval
from manet_lib.studies.confounders import TESTS, THUMBNAILS

_TITLES = {"as trained": "As trained (%)", "without": "Without markers (%)", "swapped": "Swapped (%)"}


_VIEWS = {"lungs": "segmented images", "whole": "whole images", "background": "background", "shape": "mask alone"}


def _groups(predictions: pd.DataFrame) -> Iterator[tuple[str, str, dict[str, NDArray[np.bool_]]]]:
    """View, model, and by test which images (columns) are classified correctly in each trial (rows)."""
    correct = predictions.assign(correct=predictions["label"] == predictions["predicted"])
    for (view, model), part in correct.groupby(["view", "model"], sort=False):
        by_test = {
            test: part[part["test"] == test]
            .pivot(index="trial", columns="image_id", values="correct")
            .to_numpy(bool)
            for test in TESTS
            if (part["test"] == test).any()
        }
        yield str(view), str(model), by_test


def confounder_table(predictions: pd.DataFrame, patients: Sequence[object]) -> pd.DataFrame:
    """Test accuracy in percent by view and model with the markers as trained, without them, and swapped.

    Args:
        predictions: ``predictions.csv`` of :func:`manet_lib.studies.confounders.try_other_markers`.
        patients: of the test images, in the order of their sorted image_id.

    Returns:
        One row per view and model. The last column is the accuracy with swapped markers minus that as trained, in
        points, on the same patients, with a 95% interval over patients and training runs.
    """
    rows = []
    for view, model, by_test in _groups(predictions):
        row = {"Stage 2 sees": _VIEWS[view], "Model": title_of(model)}
        for test, correct in by_test.items():
            mean, low, high = (100 * value for value in share_interval(correct, patients))
            row[_TITLES[test]] = with_interval(mean, low, high)
        if "swapped" in by_test:
            lost = compare(by_test["swapped"], by_test["as trained"], patients)
            mean, low, high = (100 * value for value in (lost.difference, lost.low, lost.high))
            row["Swapped minus as trained (points)"] = with_interval(mean, low, high, "+.1f")
        rows.append(row)
    return pd.DataFrame(rows)


def title_of(model: str) -> str:
    """How a model, or the baseline beside them, is called in tables and figures."""
    return "logistic regression" if model == THUMBNAILS else model_title(model)


def accuracy_with_markers(predictions: pd.DataFrame) -> pd.DataFrame:
    """Columns view, model, test, accuracy: mean test accuracy over training runs, in percent."""
    rows = [
        (view, model, test, 100 * float(correct.mean()))
        for view, model, by_test in _groups(predictions)
        for test, correct in by_test.items()
    ]
    return pd.DataFrame(rows, columns=["view", "model", "test", "accuracy"])


def confounder_figure(predictions: pd.DataFrame, patients: Sequence[object]) -> Figure:
    """Test accuracy with each kind of markers: a panel for each view, a bar for each model, with 95% intervals.

    Args:
        predictions: ``predictions.csv`` of :func:`manet_lib.studies.confounders.try_other_markers`.
        patients: of the test images, in the order of their sorted image_id.
    """
    groups = list(_groups(predictions))
    views = list(dict.fromkeys(view for view, _, _ in groups))
    with plt.rc_context(STYLE):
        figure, panels = plt.subplots(
            1, len(views), figsize=(3.7 * len(views), 2.9), sharey=True, squeeze=False, layout="constrained"
        )
        for axes, view in zip(panels[0], views, strict=True):
            own = [(model, by_test) for seen, model, by_test in groups if seen == view]
            for place, (model, by_test) in enumerate(own):
                bounds = 100 * np.array([share_interval(correct, patients) for correct in by_test.values()])
                mean, low, high = bounds.T
                at = np.arange(len(by_test)) + (place - (len(own) - 1) / 2) * 0.8 / len(own)
                bars = {"width": 0.74 / len(own), "color": "#bbbbbb" if model == THUMBNAILS else colour_of(model)}
                errors = {"yerr": [mean - low, high - mean], "error_kw": {"elinewidth": 0.8}}
                axes.bar(at, mean, label=title_of(model), **bars, **errors)
            axes.set(title=_VIEWS[view], ylim=(0, 100), xlabel="markers of the test images")
            axes.set_xticks(range(len(own[0][1])), list(own[0][1]))
            axes.grid(alpha=0.25, axis="y")
        panels[0][0].set_ylabel("test accuracy (%)")
        entries = panels[0][0].get_legend_handles_labels()
        figure.legend(*entries, loc="outside lower center", ncols=len(entries[0]), frameon=False, fontsize=8)
    return figure
