"""Notebook 09: how good the masks are, what post-processing changes, and how stage 2 depends on them."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from manet_lib.evaluation.paired import compare
from manet_lib.evaluation.statistics import bootstrap_interval, share_interval
from manet_lib.params import Params
from manet_lib.paths import RunPaths
from manet_lib.report.style import backbone_panels, described, draw_bounds, styled
from manet_lib.report.tables import class_title, model_title, right_by_trial, right_of, with_interval
from manet_lib.studies.perturbed_masks import PERTURBED_MASKS


def _measures(params: Params) -> list[tuple[str, str, float]]:
    """Column, title and factor of each score; distances in percent of the image's side, whatever its size."""
    distance = ("distance", "Surface distance (% of the side)", 100 / params.image_size)
    return [("iou", "IoU (%)", 100.0), ("dice", "Dice (%)", 100.0), distance]


def _with_interval(values: NDArray[np.float64], sign: str = "") -> str:
    if len(values) < 2:  # one value has no interval
        return f"{values[0]:{sign}.2f}" if len(values) else "–"
    return with_interval(values.mean(), *bootstrap_interval(values), f"{sign}.2f")


def mask_scores_table(scores: pd.DataFrame, params: Params) -> pd.DataFrame:
    """Masks of stage 1 after post-processing beside others, by class, with 95% bootstrap intervals over images.

    Args:
        scores: ``scores.csv`` of :func:`manet_lib.studies.perturbed_masks.score_masks`.
        params: of the run.

    Returns:
        Compared with reference masks, rows `annotated` give how far an image's annotated mask differs from the
        reference. Images in which stage 1 found no lungs have no distance; the last column counts them.
    """
    rows = []
    kinds = {"clean": "stage 1", "annotated": "annotated"}
    scores = scores[scores["mask"].isin(kinds)]
    for (reference, kind), part in scores.groupby(["compared_with", "mask"], sort=False):
        parts = {class_title(label): part[part["label"] == label] for label in params.classes}
        for title, chosen in (parts | {"All images": part}).items():
            if len(chosen):
                row = {"Compared with": reference, "Mask": kinds[kind], "Class": title, "Images": len(chosen)}
                for column, measure, factor in _measures(params):
                    row[measure] = _with_interval(factor * chosen[column].dropna().to_numpy())
                rows.append(row | {"No lungs found": int(chosen["distance"].isna().sum())})
    return pd.DataFrame(rows)


def recorded_mask_scores(profile: str) -> pd.DataFrame:
    """The table of :func:`mask_scores_table` that comes with the project for a profile, as text; else no rows."""
    file = RunPaths.of(profile).recorded / "mask_scores.csv"
    columns = ["Compared with", "Mask", "Class", "Images", "IoU (%)"]
    return pd.read_csv(file, dtype=str) if file.is_file() else pd.DataFrame(columns=columns, dtype=str)


def postprocessing_table(scores: pd.DataFrame, params: Params) -> pd.DataFrame:
    """What post-processing (section 2.2) changes: scores after it minus those before, on the same images."""
    rows = []
    for reference, part in scores.groupby("compared_with", sort=False):
        wide = part.pivot(index="image_id", columns="mask", values=[column for column, *_ in _measures(params)])
        row: dict[str, Any] = {"Compared with": reference, "Images": len(wide)}
        for column, title, factor in _measures(params):
            gain = factor * (wide[column]["clean"] - wide[column]["raw"]).dropna().to_numpy(float)
            if column == "iou":
                row["Better"], row["Worse"] = int((gain > 0).sum()), int((gain < 0).sum())
            row[f"{title}, change"] = _with_interval(gain, "+")
        rows.append(row)
    return pd.DataFrame(rows)


def right_with_masks(
    predictions: pd.DataFrame, params: Params, paths: RunPaths
) -> Iterator[tuple[str, str, NDArray[np.bool_], list[str]]]:
    """Which test images each model classifies correctly with each mask, its own first.

    Returns:
        Model, mask, whether each image is classified correctly in each trial, bool (trials, images), and the
        patients.
    """
    for model in [name for name in params.models if name in set(predictions["model"])]:
        trials = sorted(set(predictions.loc[predictions["model"] == model, "trial"]))
        own, patients = right_by_trial(paths, model, trials)
        yield model, "its own", own, patients
        for mask in PERTURBED_MASKS:
            part = predictions[(predictions["model"] == model) & (predictions["mask"] == mask)]
            yield model, mask, right_of(part).loc[trials].to_numpy(), patients


def perturbed_masks_table(predictions: pd.DataFrame, params: Params, paths: RunPaths) -> pd.DataFrame:
    """Accuracy of stage 2 with each mask, and the difference that it makes on the same images.

    Args:
        predictions: ``predictions.csv`` of :func:`manet_lib.studies.perturbed_masks.try_perturbed_masks`.
        params: of the run.
        paths: of the run.
    """
    rows, own = [], np.zeros((0, 0), bool)
    for model, mask, right, patients in right_with_masks(predictions, params, paths):
        row = {"Model": model_title(model), "Mask": mask, "Accuracy (%)": f"{100 * right.mean():.1f}"}
        if mask == "its own":
            own = right
            rows.append(row | {"Minus its own (points)": "–", "95% interval": "–"})
            continue
        difference, low, high = (f"{100 * bound:+.1f}" for bound in compare(right, own, patients).bounds)
        rows.append(row | {"Minus its own (points)": difference, "95% interval": f"{low} to {high}"})
    return pd.DataFrame(rows)


def accuracy_by_mask(predictions: pd.DataFrame, params: Params, paths: RunPaths) -> pd.DataFrame:
    """Accuracy of stage 2 with each mask: model, mask, accuracy, low, high (95% interval), in percent."""
    rows = [
        (model, mask, *(100 * value for value in share_interval(right, patients)))
        for model, mask, right, patients in right_with_masks(predictions, params, paths)
    ]
    return pd.DataFrame(rows, columns=["model", "mask", "accuracy", "low", "high"])


@styled
def accuracy_by_mask_figure(table: pd.DataFrame) -> Figure:
    """Accuracy of stage 2 with each mask, with 95% intervals, one panel per backbone.

    Args:
        table: from :func:`manet_lib.report.masks.accuracy_by_mask`.
    """
    masks, models = list(dict.fromkeys(table["mask"])), list(dict.fromkeys(table["model"]))
    figure, panels = backbone_panels(models, 3.4, 2.9, "test accuracy (%)")
    for model in models:
        base, _, kind = model.partition("_")
        own = table[table["model"] == model].set_index("mask").loc[masks]
        places = np.arange(len(masks)) + {"": -0.12, "ma": 0, "cbam": 0.12}[kind]
        draw_bounds(panels[base], places, own, model, linestyle="none", markersize=4, elinewidth=1)
    for axes in panels.values():
        axes.set_xticks(range(len(masks)), masks, rotation=20, ha="right")
        axes.set(ylim=(0, 100), xlim=(-0.5, len(masks) - 0.5))
        axes.legend(frameon=False, loc="lower left", ncols=3, fontsize=8)
    said = [
        f"{model_title(str(model))}: "
        + ", ".join(f"{mask} {share:.0f}" for mask, share in zip(part["mask"], part["accuracy"], strict=True))
        for model, part in table.groupby("model", sort=False)
    ]
    return described(figure, f"Test accuracy in percent by mask. {'; '.join(said)}")
