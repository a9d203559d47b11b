"""How much networks rely on confounders: the test phantoms are drawn again without markers, or with others."""

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from manet_lib.data.manifest import read_manifest
from manet_lib.data.phantom import draw_phantom
from manet_lib.data.scaling import resize, seen
from manet_lib.data.store import Store
from manet_lib.evaluation.baseline import fitted, thumbnails
from manet_lib.params import CLASSES, Params
from manet_lib.paths import RunPaths
from manet_lib.studies.testing import lung_masks, predicted_labels
from manet_lib.training.classification import load_classifier, read_predictions
from manet_lib.training.distributed import Ranks, run_step
from manet_lib.training.loop import prepare, use_threads
from manet_lib.workflow.parameters import view
from manet_lib.workflow.progress import bar
from manet_lib.workflow.records import write_csv
from manet_lib.workflow.steps import confounders_step, grid

TESTS = ("as trained", "without", "swapped")
"""Markers of the test images: as in training, none, or those of a source that is rare in the class."""

THUMBNAILS = "thumbnails"
"""Name of the baseline among the models."""

RARE_SOURCE = {"normal": "east", "covid19": "north", "tb": "south", "bp": "north", "vp": "south"}
"""A source that few images of the class come from."""


def redrawn(params: Params, phantoms: pd.DataFrame, test: str) -> NDArray[np.uint8]:
    """Some phantoms of a run with other markers: the same patients, poses and lesions.

    Args:
        params: those of the phantoms, and image_size.
        phantoms: rows of the manifest, whose path names class, patient and image.
        test: `without` or `swapped`.

    Returns:
        uint8 (N, image_size, image_size).
    """

    def image(path: str, label: str) -> NDArray[np.uint8]:
        patient, number = (int(part) for part in Path(path).stem.split("_")[1:])
        phantom = draw_phantom(
            label,
            patient * len(CLASSES) + CLASSES.index(label),
            number,
            size=params.phantom_size,
            seed=params.seed,
            confounder_strength=0.0 if test == "without" else params.confounder_strength,
            source=RARE_SOURCE[label] if test == "swapped" else "",
        )
        return resize(phantom.image, (params.image_size, params.image_size))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return np.stack(list(pool.map(image, phantoms["path"], phantoms["label"])))


def try_other_markers(params: Params, paths: RunPaths) -> bool:
    """Test all networks of a run on its test phantoms with other markers, stage 1 included.

    ``predictions.csv`` has one row per view, model, trial, test and image: view, model, trial, test (one of
    ``TESTS``), image_id, label, predicted. The model ``thumbnails``, trial 0, is logistic regression on 16×16
    pixels of what the networks see. Images that are no phantoms are tested `as trained` alone.

    Returns:
        Whether there was anything to do.
    """
    step = confounders_step(params, paths)
    return run_step(step, params, lambda ranks: _try(view(params, "confounders"), paths, ranks))


def _try(params: Params, paths: RunPaths, ranks: Ranks) -> None:
    use_threads(params)
    manifest = read_manifest(paths)
    chosen = manifest[manifest["split"] == "test"]
    pairs = dict(_image_pairs(params, paths, chosen, ranks))
    tables = list(_baseline(params, paths, manifest, pairs))
    views = (params.view, *params.audit_views)
    runs = [(shown, model, trial) for shown in views for model, trial in grid(params)]
    for shown, model, trial in bar(runs, len(runs), "testing with other markers"):
        own, where = params.seeing(shown), paths if shown == params.view else paths.seeing(shown)
        network = prepare(load_classifier(own, where, model, trial), own, ranks.device)
        tested = read_predictions(where, model, trial)
        assert tested is not None
        found = {TESTS[0]: tested[["image_id", "label", "predicted"]]}
        for test in [*pairs][1:]:
            predicted = predicted_labels(network, *pairs[test], own, ranks)
            found[test] = chosen[["image_id", "label"]].assign(predicted=predicted)
        for test, table in found.items():
            tables.append(table.assign(view=shown, model=model, trial=trial, test=test))
    if ranks.leads:
        columns = ["view", "model", "trial", "test", "image_id", "label", "predicted"]
        write_csv(paths.confounders / "predictions.csv", pd.concat(tables)[columns])


def _image_pairs(
    params: Params, paths: RunPaths, chosen: pd.DataFrame, ranks: Ranks
) -> Iterator[tuple[str, tuple[NDArray[np.uint8], NDArray[np.uint8]]]]:
    """By test, the test images and the lung masks that stage 1 and post-processing give them."""
    images, masks = Store.open(paths.store).images, np.load(paths.clean_masks, mmap_mode="r")
    yield TESTS[0], (images[chosen.index], masks[chosen.index])
    if params.data_source == "phantom":
        for test in TESTS[1:]:
            drawn = redrawn(params, chosen, test)
            yield test, (drawn, lung_masks(drawn, params, paths, ranks))


def _baseline(
    params: Params,
    paths: RunPaths,
    manifest: pd.DataFrame,
    pairs: Mapping[str, tuple[NDArray[np.uint8], NDArray[np.uint8]]],
) -> Iterator[pd.DataFrame]:
    """What logistic regression on thumbnails predicts for the same test images, by view and test."""
    train, chosen = (manifest[manifest["split"] == side] for side in ("train", "test"))
    images, masks = Store.open(paths.store).images, np.load(paths.clean_masks, mmap_mode="r")
    for shown in (params.view, *params.audit_views):
        small = thumbnails(seen(images[row], masks[row], shown) for row in train.index)
        regression = fitted(small, train["label"].to_numpy())
        for test, both in pairs.items():
            tested = thumbnails(seen(image, mask, shown) for image, mask in zip(*both, strict=True))
            table = chosen[["image_id", "label"]].assign(predicted=regression.predict(tested))
            yield table.assign(view=shown, model=THUMBNAILS, trial=0, test=test)
