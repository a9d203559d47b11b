"""Scores of heat maps against lungs and true lesions, and the controls without which no score says anything."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from manet_lib.attention.maps import Inputs, chosen_images, fresh_classifier, grad_cam, inputs_of, true_lesions
from manet_lib.data.manifest import read_manifest
from manet_lib.params import Params
from manet_lib.paths import RunPaths
from manet_lib.training.classification import load_classifier
from manet_lib.workflow.parameters import view
from manet_lib.workflow.records import write_csv
from manet_lib.workflow.steps import attention_step

MEASURES = ("share", "covered", "pointing", "precision")
"""Of each region; see :func:`score_map`."""

Region = NDArray[np.bool_]


def share_inside(heat: NDArray[np.float32], region: Region) -> float:
    """Share of a heat map's sum that lies inside a region; NaN for a map of zeros.

    Args:
        heat: float (H, W), not negative.
        region: bool (H, W).
    """
    total = float(heat.sum())
    return float(heat[region].sum()) / total if total > 0 else float("nan")


def score_map(heat: NDArray[np.float32], region: Region) -> dict[str, float]:
    """How a heat map, float (H, W) in [0, 1], relates to a region, bool (H, W) and not empty.

    Returns:
        ``share`` of the map's sum inside the region; ``covered``, the map's mean over the region; ``pointing``,
        whether its highest place is inside (a share where there are several; Zhang et al., 2018); ``precision``,
        the average precision of the pixels (Cong et al., 2018), for which only their order counts. For a map of
        zeros, ``covered`` is 0 and the others are NaN.
    """
    if not heat.any():
        return dict.fromkeys(MEASURES, float("nan")) | {"covered": 0.0}
    highest = region[heat == heat.max()]
    precision = average_precision_score(region.ravel(), heat.ravel())
    values = (share_inside(heat, region), float(heat[region].mean()), float(highest.mean()), float(precision))
    return dict(zip(MEASURES, values, strict=True))


def centre_blob(size: int) -> NDArray[np.float32]:
    """A map that does not depend on the image: a Gaussian in its middle, a quarter of the side wide."""
    place = np.linspace(-2, 2, size)
    return np.exp(-(place[:, None] ** 2 + place[None] ** 2) / 2).astype(np.float32)


def score_attention(params: Params, paths: RunPaths, trained: list[tuple[str, int]]) -> bool:
    """Score the heat maps of all trained models on the same test images.

    ``scores.csv`` has one row per model, trial and image: model, trial, image_id, label, empty (whether the map is
    all zeros), heat (its mean), and of the lungs (``lung_``) and, on phantoms, of the true lesions (``lesion_``)
    the measures of :func:`score_map` and the area, a share of the image: what share, pointing and precision are
    for a map without preference.

    ``controls.csv`` has the same with a column control: `untrained`, the same network with fresh weights;
    `mismatched mask`, the trained one on the image segmented by another image's mask, scored in the image's own
    lungs; `that mask`, the same scored in the mask that it was given; and `centre blob` (model "", trial 0).

    Returns:
        Whether there was anything to do.
    """
    return attention_step(params, paths, trained).run(lambda: _score(view(params, "attention"), paths, trained))


def _score(params: Params, paths: RunPaths, trained: list[tuple[str, int]]) -> None:
    scores, controls = attention_scores(params, paths, trained), _controls(params, paths, trained)
    write_csv(paths.attention / "scores.csv", scores, "%.6f")
    write_csv(paths.attention / "controls.csv", controls, "%.6f")


def attention_scores(
    params: Params, paths: RunPaths, trained: list[tuple[str, int]], fresh: bool = False
) -> pd.DataFrame:
    """Score the heat maps of trained models; the rows of ``scores.csv``, see :func:`score_attention`.

    Args:
        params: of the run.
        paths: of the run.
        trained: model and trial of each.
        fresh: score the same networks with fresh weights instead.
    """
    images = chosen_images(read_manifest(paths), params.classes, params.cam_per_class)
    seen = inputs_of(params, paths, images)
    lesions = true_lesions(paths, images, seen.lungs.shape[-1])
    rows: list[dict[str, object]] = []
    for model, trial in trained:
        maps = _maps(params, paths, seen, model, trial, fresh)
        rows += _scored(images, maps, seen.lungs, lesions, model=model, trial=trial)
    return pd.DataFrame(rows)


def _controls(params: Params, paths: RunPaths, trained: list[tuple[str, int]]) -> pd.DataFrame:
    images = chosen_images(read_manifest(paths), params.classes, params.cam_per_class)
    seen = inputs_of(params, paths, images)
    lesions = true_lesions(paths, images, seen.lungs.shape[-1])
    # of another image, in most cases of another class
    given = np.roll(seen.lungs, params.cam_per_class % len(images) or 1, axis=0)
    exchanged = inputs_of(params, paths, images, given)
    blob = np.repeat(centre_blob(seen.lungs.shape[-1])[None], len(images), axis=0)
    rows = list(_scored(images, blob, seen.lungs, lesions, control="centre blob", model="", trial=0))
    for model, trial in trained:
        maps = _maps(params, paths, seen, model, trial, fresh=True)
        rows += _scored(images, maps, seen.lungs, lesions, control="untrained", model=model, trial=trial)
        maps = _maps(params, paths, exchanged, model, trial)
        rows += _scored(images, maps, seen.lungs, lesions, control="mismatched mask", model=model, trial=trial)
        nowhere = np.zeros_like(lesions)  # lesions of the other image are no lesions of this one
        rows += _scored(images, maps, given, nowhere, control="that mask", model=model, trial=trial)
    return pd.DataFrame(rows)


def _maps(
    params: Params, paths: RunPaths, seen: Inputs, model: str, trial: int, fresh: bool = False
) -> NDArray[np.float32]:
    """Maps of a trained network, or of one with fresh weights."""
    network = fresh_classifier(params, model, trial) if fresh else load_classifier(params, paths, model, trial)
    return grad_cam(network, seen.image, seen.mask, seen.target)


def _scored(
    images: pd.DataFrame, maps: NDArray[np.float32], lungs: Region, lesions: Region, **of_all: object
) -> Iterator[dict[str, object]]:
    """A row for each image, which begins with what all of them have in common."""
    for image, heat, lung, lesion in zip(images.itertuples(), maps, lungs, lesions, strict=True):
        row = of_all | {"image_id": image.image_id, "label": image.label}
        row |= {"empty": not heat.any(), "heat": float(heat.mean())}
        for name, region in (("lung", lung), ("lesion", lesion)):
            if region.any():
                scores = score_map(heat, region) | {"area": float(region.mean())}
                row |= {f"{name}_{measure}": value for measure, value in scores.items()}
        yield row
