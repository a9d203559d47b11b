"""How good the masks of stage 1 are, and how worse masks change the predictions of stage 2."""

import difflib
from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from manet_lib.data.images import read_mask
from manet_lib.data.manifest import read_manifest
from manet_lib.data.scaling import resize
from manet_lib.data.seeds import stable_hash
from manet_lib.data.sources.own import listing_of
from manet_lib.data.store import Store
from manet_lib.evaluation.metrics import intersection_over_union
from manet_lib.evaluation.overlap import dice, grown, surface_distance
from manet_lib.params import Params, UserError
from manet_lib.paths import RunPaths, expand
from manet_lib.studies.testing import predicted_labels
from manet_lib.training.classification import load_classifier
from manet_lib.training.distributed import Ranks, run_step
from manet_lib.training.loop import prepare, use_threads
from manet_lib.workflow.parameters import view
from manet_lib.workflow.progress import bar
from manet_lib.workflow.records import write_csv
from manet_lib.workflow.steps import mask_scores_step, perturbed_masks_step

Masks = NDArray[np.bool_]

CHANGE = 0.03
"""By how much of the image's side masks are shrunk and grown."""

PERTURBED_MASKS = ("shrunk", "grown", "mismatched", "whole image")
"""What the networks are given instead of their own mask."""


def score_masks(params: Params, paths: RunPaths) -> bool:
    """Compare the masks of stage 1 with masks that it was not trained on, before and after post-processing.

    ``scores.csv`` has one row per image and mask: image_id, label, compared_with (`test masks`: those of stage 1's
    test images; `reference masks`: those of ``reference_masks``, of images that did not train stage 1), mask
    (`raw`, `clean`, and `annotated` for an image's annotated mask, against the reference), iou, dice and distance
    (average symmetric surface distance in pixels of the store; empty where no lungs were found).

    Returns:
        Whether there was anything to do.
    """
    return mask_scores_step(params, paths).run(lambda: _score(view(params, "mask_scores"), paths))


def _score(params: Params, paths: RunPaths) -> None:
    manifest, store = read_manifest(paths), Store.open(paths.store)
    raw, clean = (np.load(file, mmap_mode="r") for file in (paths.raw_masks, paths.clean_masks))
    rows: list[tuple[str | float, ...]] = []
    for row in manifest.index[manifest["seg_split"] == "test"]:
        pair = {"raw": raw[row], "clean": clean[row]}
        rows += _compared(manifest.loc[row], "test masks", store.masks[row], pair)
    for row, reference in _references(params, manifest, store.images.shape[-1]):
        pair = {"raw": raw[row], "clean": clean[row]}
        if store.masks[row].any():
            pair["annotated"] = store.masks[row]
        rows += _compared(manifest.loc[row], "reference masks", reference, pair)
    columns = ["image_id", "label", "compared_with", "mask", "iou", "dice", "distance"]
    write_csv(paths.mask_scores / "scores.csv", pd.DataFrame(rows, columns=columns), "%.6f")


def _compared(
    image: pd.Series, name: str, truth: NDArray[np.uint8], masks: dict[str, NDArray[np.uint8]]
) -> Iterator[tuple[str | float, ...]]:
    right = truth > 0
    for kind, mask in masks.items():
        found = mask > 0
        scores = (float(score(found[None], right[None])[0]) for score in (intersection_over_union, dice))
        yield (image["image_id"], image["label"], name, kind, *scores, surface_distance(found, right))


def _references(params: Params, manifest: pd.DataFrame, size: int) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Row and reference mask (S, S) of every image that has one and has not trained stage 1."""
    if params.data_source != "manifest" or not params.reference_masks:
        return
    folder = expand(params.data_dir)
    listing = listing_of(folder, params.data_csv).drop_duplicates("path").set_index("path")
    if params.reference_masks not in listing:
        near = difflib.get_close_matches(params.reference_masks, list(listing.columns), n=1)
        hint = f"; the nearest is {near[0]!r}" if near else ""
        raise UserError(
            f"reference_masks: {params.data_csv} has no column {params.reference_masks!r}, "
            f"only {', '.join(listing.columns)}{hint}"
        )
    trained_on = manifest.loc[manifest["seg_split"] == "train", "sha256"]  # copies of these have been seen as well
    unseen = manifest[~manifest["sha256"].isin(trained_on) & manifest["path"].isin(listing.index)]
    names = listing[params.reference_masks].loc[unseen["path"]].to_numpy()
    for image, cell in zip(bar(unseen.itertuples(), len(unseen), "reading reference masks"), names, strict=True):
        shape = (int(image.height), int(image.width))
        parts = [name.strip().replace("\\", "/") for name in cell.split(";") if name.strip()]
        masks = [read_mask(folder / name, shape).astype(np.uint8) for name in parts]
        if masks:
            merged = np.maximum.reduce([resize(mask, (size, size), smooth=False) for mask in masks])
            if not merged.any():
                raise UserError(f"{cell}: the reference mask is empty; redraw it, or leave the cell empty")
            yield image.Index, merged


def perturbed_masks(own: Masks) -> dict[str, Masks]:
    """What stage 2 is given instead of the masks of some images, (N, S, S), by name as in ``PERTURBED_MASKS``.

    Shrunk and grown by 3% of the side; those of the same images in another order, each image with another's; and
    the whole image.
    """
    pixels = max(1, round(CHANGE * own.shape[-1]))
    order = np.random.default_rng(stable_hash("other masks", len(own))).permutation(len(own))
    shuffled = np.empty_like(own)
    shuffled[order] = own[np.roll(order, 1)]  # nobody keeps its own
    changed = (
        np.stack([grown(mask, -pixels) for mask in own]),
        np.stack([grown(mask, pixels) for mask in own]),
        shuffled,
        np.ones_like(own),
    )
    return dict(zip(PERTURBED_MASKS, changed, strict=True))


def try_perturbed_masks(params: Params, paths: RunPaths, trained: list[tuple[str, int]]) -> bool:
    """Classify the test images with each trained network, as if stage 1 had found other lungs.

    The network is given image and mask as in a test, segmented by that mask. ``predictions.csv`` has one row per
    model, trial, mask and image: model, trial, mask (`shrunk`, `grown`, `mismatched`, `whole image`), image_id,
    label, predicted.

    Returns:
        Whether there was anything to do.
    """
    step = perturbed_masks_step(params, paths, trained)
    return run_step(step, params, lambda ranks: _try(view(params, "perturbed_masks"), paths, trained, ranks))


def _try(params: Params, paths: RunPaths, trained: list[tuple[str, int]], ranks: Ranks) -> None:
    use_threads(params)
    manifest = read_manifest(paths)
    images = manifest[manifest["split"] == "test"]
    stored = Store.open(paths.store).images[images.index]
    variants = perturbed_masks(np.load(paths.clean_masks, mmap_mode="r")[images.index] > 0)
    tables = []
    for model, trial in bar(trained, len(trained), "trying perturbed masks"):
        network = prepare(load_classifier(params, paths, model, trial), params, ranks.device)
        for name, masks in variants.items():
            predicted = predicted_labels(network, stored, masks.astype(np.uint8), params, ranks)
            table = images[["image_id", "label"]].assign(predicted=predicted)
            tables.append(table.assign(model=model, trial=trial, mask=name))
    columns = ["model", "trial", "mask", "image_id", "label", "predicted"]
    if ranks.leads:
        write_csv(paths.perturbed_masks / "predictions.csv", pd.concat(tables)[columns])
