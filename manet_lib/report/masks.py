"""Tables of masks: how good stage 1's are, what post-processing changes, and how stage 2 depends on them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from manet_lib.evaluation.paired import compare
from manet_lib.evaluation.statistics import bootstrap_interval, share_interval
from manet_lib.mask_checks import OTHER_MASKS
from manet_lib.params import Params
from manet_lib.paths import RunPaths
from manet_lib.report.tables import class_title, model_title, right_by_trial

_RULES = ("reference masks", "test masks")
"""What stage 1 is compared with: masks drawn by another rule than those that it learnt from, and by the same."""

_SCORES = (("iou", "IoU (%)", 100.0), ("dice", "Dice (%)", 100.0))


def _measures(params: Params) -> list[tuple[str, str, float]]:
    """Column, title and factor of each score; distances in percent of the film's side, whatever its size."""
    return [*_SCORES, ("distance", "Surface distance (% of the side)", 100 / params.image_size)]


def _with_interval(values: NDArray[np.float64], sign: str = "") -> str:
    if not len(values):
        return "–"
    low, high = bootstrap_interval(values)
    return f"{values.mean():{sign}.2f} ({low:{sign}.2f} to {high:{sign}.2f})"


def mask_scores_table(scores: pd.DataFrame, params: Params) -> pd.DataFrame:
    """Masks of stage 1 after post-processing beside others, by class, with 95% bootstrap intervals over films.

    Args:
        scores: ``scores.csv`` of :func:`manet_lib.mask_checks.score_masks`.
        params: of the run.

    Returns:
        Beside reference masks, rows `drawn` tell how far a film's own drawn mask differs from the reference. Films
        in which stage 1 found no lungs have no distance; the last column counts them.
    """
    rows = []
    kinds = {"clean": "stage 1", "drawn": "drawn"}
    for (reference, kind), part in scores.groupby(["compared_with", "mask"], sort=False):
        if kind not in kinds:
            continue
        for label in [*params.classes, "all films"]:
            chosen = part if label == "all films" else part[part["label"] == label]
            if len(chosen):
                row: dict[str, Any] = {"Compared with": reference, "Mask": kinds[str(kind)]}
                row |= {"Class": "All films" if label == "all films" else class_title(label), "Films": len(chosen)}
                for column, title, factor in _measures(params):
                    row[title] = _with_interval(factor * chosen[column].dropna().to_numpy())
                rows.append(row | {"No lungs found": int(chosen["distance"].isna().sum())})
    return pd.DataFrame(rows)


def recorded_mask_scores(profile: str) -> pd.DataFrame:
    """The table of :func:`mask_scores_table` that comes with the project for a profile, as text; else no rows."""
    file = RunPaths.of(profile).recorded / "mask_scores.csv"
    columns = ["Compared with", "Mask", "Class", "Films", "IoU (%)"]
    return pd.read_csv(file, dtype=str) if file.is_file() else pd.DataFrame(columns=columns, dtype=str)


def drawn_in_words(table: pd.DataFrame) -> str:
    """How far two drawn masks of a film disagree, and stage 1 with either, from a table of all classes.

    Args:
        table: from :func:`recorded_mask_scores`, with rows `drawn`.
    """
    if table.empty:
        return "No masks of real films come with the project here."
    of_all = table[table["Class"] == "All films"].set_index(["Compared with", "Mask"])
    drawn, far, near = (
        of_all.loc[pair] for pair in (("reference masks", "drawn"), *((kind, "stage 1") for kind in _RULES))
    )
    iou = [float(row["IoU (%)"].split()[0]) for row in (drawn, far, near)]
    return (
        f"Two masks of one film, drawn by different rules, have a mean IoU of {iou[0]:.0f}% ({drawn['Films']} "
        f"films). Stage 1 has {iou[1]:.0f}% beside the masks of the other rule ({far['Films']} films) and "
        f"{iou[2]:.0f}% beside those of its own ({near['Films']} films, not the same ones)."
    )


def mask_scores_in_words(scores: pd.DataFrame, params: Params) -> str:
    """How well stage 1's masks fit others, in which class least, and how far the outlines are apart in pixels.

    Args:
        scores: see :func:`mask_scores_table`.
        params: of the run.
    """
    said = []
    for reference, part in scores.groupby("compared_with", sort=False):
        clean, drawn = part[part["mask"] == "clean"], part[part["mask"] == "drawn"]
        iou = 100 * clean.groupby("label")["iou"].mean()
        text = f"Beside {reference} stage 1 has a mean IoU of {100 * clean['iou'].mean():.1f}%"
        if len(iou) > 1:
            text += f", least in {class_title(str(iou.idxmin()))} ({iou.min():.1f}%)"
        text += f"; outlines are {clean['distance'].mean():.1f} of {params.image_size} pixels apart in the mean"
        if len(drawn):
            text += f". On {len(drawn)} films that have both, drawn masks reach {100 * drawn['iou'].mean():.1f}%"
        said.append(f"{text}.")
    return " ".join(said)


def postprocessing_table(scores: pd.DataFrame, params: Params) -> pd.DataFrame:
    """What post-processing (section 2.2) changes: scores after it less those before, on the same films."""
    rows = []
    for reference, part in scores.groupby("compared_with", sort=False):
        wide = part.pivot(index="image_id", columns="mask", values=[column for column, *_ in _measures(params)])
        row: dict[str, Any] = {"Compared with": reference, "Films": len(wide)}
        for column, title, factor in _measures(params):
            gain = factor * (wide[column]["clean"] - wide[column]["raw"]).dropna().to_numpy(float)
            if column == "iou":
                row["Better"], row["Worse"] = int((gain > 0).sum()), int((gain < 0).sum())
            row[f"{title}, change"] = _with_interval(gain, "+")
        rows.append(row)
    return pd.DataFrame(rows)


def _right_with(predictions: pd.DataFrame, model: str, mask: str, trials: list[int]) -> NDArray[np.bool_]:
    part = predictions[(predictions["model"] == model) & (predictions["mask"] == mask)]
    right = part.assign(right=part["label"] == part["predicted"])
    return right.pivot(index="trial", columns="image_id", values="right").loc[trials].to_numpy(bool)


def right_with_masks(
    predictions: pd.DataFrame, params: Params, paths: RunPaths
) -> Iterator[tuple[str, str, NDArray[np.bool_], list[str]]]:
    """Which test films each model classifies rightly with each mask, its own first.

    Returns:
        Model, mask, whether each film is classified rightly in each trial, bool (trials, films), and the patients.
    """
    for model in [name for name in params.models if name in set(predictions["model"])]:
        trials = sorted(set(predictions.loc[predictions["model"] == model, "trial"]))
        own, patients = right_by_trial(params, paths, model, trials)
        yield model, "its own", own, patients
        for mask in OTHER_MASKS:
            yield model, mask, _right_with(predictions, model, mask, trials), patients


def other_masks_table(predictions: pd.DataFrame, params: Params, paths: RunPaths) -> pd.DataFrame:
    """Accuracy of stage 2 with each mask, and the difference that it makes on the same films.

    Args:
        predictions: ``predictions.csv`` of :func:`manet_lib.mask_checks.try_other_masks`.
        params: of the run.
        paths: of the run.
    """
    rows, own = [], np.zeros((0, 0), bool)
    for model, mask, right, patients in right_with_masks(predictions, params, paths):
        row = {"Model": model_title(model), "Mask": mask, "Accuracy (%)": f"{100 * right.mean():.1f}"}
        if mask == "its own":
            own = right
            rows.append(row | {"Less with its own (points)": "–", "95% interval": "–"})
            continue
        found = compare(right, own, patients)
        low, high = 100 * found.low, 100 * found.high
        row["Less with its own (points)"] = f"{100 * found.difference:+.1f}"
        rows.append(row | {"95% interval": f"{low:+.1f} to {high:+.1f}"})
    return pd.DataFrame(rows)


def accuracy_by_mask(predictions: pd.DataFrame, params: Params, paths: RunPaths) -> pd.DataFrame:
    """Accuracy of stage 2 with each mask: model, mask, accuracy, low, high (95% interval), in percent."""
    rows = [
        (model, mask, *(100 * value for value in share_interval(right, patients)))
        for model, mask, right, patients in right_with_masks(predictions, params, paths)
    ]
    return pd.DataFrame(rows, columns=["model", "mask", "accuracy", "low", "high"])


def masks_in_words(table: pd.DataFrame) -> str:
    """What other masks cost each network most, in a sentence for each.

    Args:
        table: from :func:`accuracy_by_mask`.
    """
    said = []
    for model, part in table.groupby("model", sort=False):
        share = part.set_index("mask")["accuracy"]
        own, others = share.iloc[0], share.iloc[1:]
        worst = str(others.idxmin())
        said.append(
            f"{model_title(str(model))}: {own:.0f}% with its own masks, {others[worst]:.0f}% at worst, "
            f"with the mask {worst!r}."
        )
    return " ".join(said)


def edges_in_words(table: pd.DataFrame) -> str:
    """What an edge in the wrong place costs, beside how far the networks are apart.

    Args:
        table: from :func:`accuracy_by_mask`.
    """
    wide = table.pivot(index="model", columns="mask", values="accuracy")
    losses = wide[["shrunk", "grown"]].rsub(wide["its own"], axis=0)
    model, mask = losses.stack().idxmax()
    apart = wide["its own"].max() - wide["its own"].min()
    return (
        f"A mask that is shrunk or grown a little costs {losses.loc[model, mask]:.1f} points at most "
        f"({model_title(model)}, {mask}). With their own masks the best and the worst of these networks are "
        f"{apart:.1f} points apart."
    )
