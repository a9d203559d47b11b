"""Notebook 10: the same test images with other markers."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from manet_lib.evaluation.paired import compare
from manet_lib.evaluation.statistics import share_interval
from manet_lib.report.style import legend_below, look_of, row_of_panels, styled
from manet_lib.report.tables import in_percent, model_title, right_of
from manet_lib.studies.confounders import TESTS, THUMBNAILS

_TITLES = {"as trained": "As trained (%)", "without": "Without markers (%)", "swapped": "Swapped (%)"}

_VIEWS = {"lungs": "segmented images", "whole": "whole images", "background": "background", "shape": "mask alone"}


def _groups(predictions: pd.DataFrame) -> Iterator[tuple[str, str, dict[str, NDArray[np.bool_]]]]:
    """View, model, and by test which images (columns) are classified correctly in each trial (rows)."""
    for (view, model), part in predictions.groupby(["view", "model"], sort=False):
        tested = dict(list(part.groupby("test")))
        yield str(view), str(model), {test: right_of(tested[test]).to_numpy() for test in TESTS if test in tested}


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
            row[_TITLES[test]] = in_percent(share_interval(correct, patients))
        if "swapped" in by_test:
            lost = compare(by_test["swapped"], by_test["as trained"], patients)
            row["Swapped minus as trained (points)"] = in_percent(lost.bounds, "+.1f")
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


@styled
def confounder_figure(predictions: pd.DataFrame, patients: Sequence[object]) -> Figure:
    """Test accuracy with each kind of markers: a panel for each view, a bar for each model, with 95% intervals.

    Args:
        predictions: ``predictions.csv`` of :func:`manet_lib.studies.confounders.try_other_markers`.
        patients: of the test images, in the order of their sorted image_id.
    """
    groups = list(_groups(predictions))
    views = list(dict.fromkeys(view for view, _, _ in groups))
    figure, panels = row_of_panels(len(views), 3.7, 2.9, sharey=True)
    for axes, view in zip(panels, views, strict=True):
        own = [(model, by_test) for seen, model, by_test in groups if seen == view]
        for place, (model, by_test) in enumerate(own):
            bounds = 100 * np.array([share_interval(correct, patients) for correct in by_test.values()])
            mean, low, high = bounds.T
            at = np.arange(len(by_test)) + (place - (len(own) - 1) / 2) * 0.8 / len(own)
            colour = "#bbbbbb" if model == THUMBNAILS else look_of(model)["color"]
            bars = {"width": 0.74 / len(own), "color": colour}
            errors = {"yerr": [mean - low, high - mean], "error_kw": {"elinewidth": 0.8}}
            axes.bar(at, mean, label=title_of(model), **bars, **errors)
        axes.set(title=_VIEWS[view], ylim=(0, 100), xlabel="markers of the test images")
        axes.set_xticks(range(len(own[0][1])), list(own[0][1]))
        axes.grid(alpha=0.25, axis="y")
    panels[0].set_ylabel("test accuracy (%)")
    legend_below(figure, panels[0])
    return figure
