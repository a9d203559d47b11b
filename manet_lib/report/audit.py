"""Notebook 10: what stage 2 makes of other parts of the image, and how far the source of an image goes alone."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from manet_lib.data.manifest import read_manifest
from manet_lib.data.scaling import seen
from manet_lib.data.store import Store
from manet_lib.evaluation.baseline import predicted_correctly, thumbnails
from manet_lib.evaluation.paired import Comparison, compare
from manet_lib.evaluation.statistics import share_interval
from manet_lib.params import Params
from manet_lib.paths import RunPaths, recorded_results
from manet_lib.report.tables import (
    Bounds,
    class_title,
    in_order,
    in_percent,
    model_title,
    patients_of,
    predictions_of,
    right_of,
)
from manet_lib.workflow.records import Known
from manet_lib.workflow.steps import classification_step, grid

VIEWS = ("lungs", "whole", "background", "shape")
"""What stage 2 may see, the paper's first; see ``view`` in :class:`manet_lib.params.Params`."""

_ANSWER = ["view", "model", "trial", "image_id", "label", "source", "patient", "predicted"]


def run_predictions(params: Params, paths: RunPaths) -> pd.DataFrame:
    """What the networks of a run predict for its test images with each view that they were trained with.

    Returns:
        Columns view, model, trial, image_id, label, source, patient, predicted.
    """
    manifest = read_manifest(paths).set_index("image_id")
    known: Known = {}
    tables = []
    for view in dict.fromkeys([params.view, *params.audit_views]):
        where = paths if view == params.view else paths.seeing(view)
        for model, trial in grid(params):
            if classification_step(params.seeing(view), where, model, trial).fault(known) is None:
                tables.append(predictions_of(where, model, [trial]).assign(view=view, model=model))
    found = pd.concat(tables) if tables else pd.DataFrame(columns=_ANSWER)
    images = pd.Index(found["image_id"])
    found = found.assign(source=manifest["source"].loc[images].to_numpy(), patient=patients_of(paths, images))
    return found[_ANSWER]


def recorded_predictions(name: str) -> pd.DataFrame:
    """The same for runs that benchmarks/shortcuts.py has recorded under a name; empty if there are none."""
    file = recorded_results("shortcuts") / "views.csv"
    if not file.is_file():
        return pd.DataFrame(columns=_ANSWER)
    table = pd.read_csv(file, dtype={"image_id": str, "patient": str, "source": str}, keep_default_na=False)
    return table[table["images"] == name].drop(columns="images")


def _right(predictions: pd.DataFrame) -> tuple[NDArray[np.bool_], list[str]]:
    """Which images are classified correctly, bool (trials, images), and the images' patients."""
    wide = right_of(predictions)
    patients = predictions.drop_duplicates("image_id").set_index("image_id")["patient"].loc[wide.columns]
    return wide.to_numpy(bool), patients.tolist()


def _compared(first: pd.DataFrame, second: pd.DataFrame) -> Comparison | None:
    """Two networks' predictions in the trials and on the images that both have."""
    one, other = right_of(first), right_of(second)
    trials, images = one.index.intersection(other.index), one.columns.intersection(other.columns)
    if not len(trials) or not len(images):
        return None
    patients = first.drop_duplicates("image_id").set_index("image_id")["patient"].loc[images].tolist()
    return compare(one.loc[trials, images].to_numpy(bool), other.loc[trials, images].to_numpy(bool), patients)


def _by_view(predictions: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    for model in dict.fromkeys(predictions["model"]):
        for view in VIEWS:
            part = predictions[(predictions["model"] == model) & (predictions["view"] == view)]
            if len(part):
                yield model, view, part


def views_table(predictions: pd.DataFrame) -> pd.DataFrame:
    """Test accuracy by view, minus that with the lungs alone on the same images, and recall by class, in percent.

    Where images of both pneumonias are there, the last column counts those that are taken for the other of the
    two.

    Args:
        predictions: from :func:`run_predictions` or :func:`recorded_predictions`.
    """
    rows = []
    for model, view, part in _by_view(predictions):
        row = {"Model": model_title(model), "View": view}
        row["Accuracy (%)"] = in_percent(share_interval(*_right(part)))
        lungs = predictions[(predictions["model"] == model) & (predictions["view"] == "lungs")]
        found = _compared(part, lungs) if view != "lungs" and len(lungs) else None
        row["Minus lungs (points)"] = in_percent(found.bounds, "+.1f") if found else "–"
        for label in in_order(predictions["label"]):
            images = part[part["label"] == label]
            row[class_title(label)] = f"{100 * (images['label'] == images['predicted']).mean():.0f}"
        exchanged = confused(part)
        if len(exchanged):
            counted = " predictions" if part["trial"].nunique() > 1 else ""
            row["BP and VP confused"] = f"{exchanged.sum()} of {len(exchanged)}{counted}"
        rows.append(row)
    return pd.DataFrame(rows)


def confused(predictions: pd.DataFrame) -> pd.Series:
    """Whether each image of a bacterial or viral pneumonia is taken for the other of the two."""
    pneumonias = predictions[predictions["label"].isin(["bp", "vp"])]
    return pneumonias["predicted"].isin(["bp", "vp"]) & (pneumonias["label"] != pneumonias["predicted"])


def adults_table(predictions: pd.DataFrame, children: Sequence[str]) -> pd.DataFrame:
    """Normal images of children beside those of adults, by view: recall in percent, and the difference in points.

    Images of different patients, so the intervals of both make that of the difference (square-and-add).

    Args:
        predictions: from :func:`run_predictions` or :func:`recorded_predictions`.
        children: sources whose images are of children.
    """
    rows = []
    for model, view, part in _by_view(predictions[predictions["label"] == "normal"]):
        young = part["source"].isin(children)
        found = [_right(part[which]) for which in (young, ~young) if which.any()]
        if len(found) == 2:
            shares = [share_interval(*one) for one in found]
            row = {"Model": model_title(model), "View": view}
            for title, one, share in zip(("Children", "Adults"), found, shares, strict=True):
                row |= {f"{title}: images": str(one[0].shape[1]), f"{title} (%)": in_percent(share)}
            rows.append(row | {"Adults minus children (points)": in_percent(_difference(*shares[::-1]), "+.1f")})
    return pd.DataFrame(rows)


def _difference(first: Bounds, second: Bounds) -> Bounds:
    """The first minus the second, which have nothing to do with each other: Newcombe's square-and-add."""
    difference = first[0] - second[0]
    low = difference - np.hypot(first[0] - first[1], second[2] - second[0])
    high = difference + np.hypot(first[2] - first[0], second[0] - second[1])
    return difference, float(low), float(high)


def sources_table(predictions: pd.DataFrame) -> pd.DataFrame:
    """Accuracy by source within each class, with the lungs alone, where a class has images of several sources.

    Where one hospital's images of a class are recognised and another's are not, something else than the class may
    have been learnt; or the images differ in more than the hospital, such as in the age of the patients.
    """
    rows = []
    for model, _, part in _by_view(predictions[predictions["view"] == "lungs"]):
        for label in in_order(part["label"]):
            sources = dict(list(part[part["label"] == label].groupby("source")))
            for source, images in sources.items() if len(sources) > 1 else ():
                right, patients = _right(images)
                row = {"Model": model_title(model), "Class": class_title(label), "Source": str(source)}
                row["Images"] = str(right.shape[1])
                rows.append(row | {"Accuracy (%)": in_percent(share_interval(right, patients))})
    return pd.DataFrame(rows)


def probe_table(paths: RunPaths) -> pd.DataFrame:
    """How far coarse grey values go: class and source from 16×16 thumbnails of each view, by logistic regression.

    Returns:
        Test accuracy in percent with its 95% interval, and in the first row that of the training's most frequent
        answer.
    """
    manifest, store = read_manifest(paths), Store.open(paths.store)
    masks = np.load(paths.clean_masks, mmap_mode="r")
    test, train = (manifest[manifest["split"] == side] for side in ("test", "train"))
    patients = patients_of(paths, pd.Index(test["image_id"]))
    targets = [name for name in ("label", "source") if train[name].nunique() > 1]
    titles = {"label": "Class (%)", "source": "Source (%)"}
    frequent = {name: train[name].value_counts().index[0] for name in targets}
    most = {titles[name]: f"{100 * (test[name] == frequent[name]).mean():.1f}" for name in targets}
    rows: list[dict[str, Any]] = [{"Seen": "nothing: the most frequent"} | most]
    for view in VIEWS:
        shown = thumbnails(seen(image, mask, view) for image, mask in zip(store.images, masks, strict=True))
        row: dict[str, Any] = {"Seen": view}
        for name in targets:
            right = predicted_correctly(shown, manifest, name)
            row[titles[name]] = in_percent(share_interval(right[None], patients))
        rows.append(row)
    return pd.DataFrame(rows)
