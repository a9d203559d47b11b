import numpy as np
import pandas as pd
import pytest
from conftest import write_images
from PIL import Image

from manet_lib.data.manifest import read_manifest
from manet_lib.evaluation.overlap import grown
from manet_lib.params import UserError
from manet_lib.report.masks import accuracy_by_mask, mask_scores_table, perturbed_masks_table, postprocessing_table
from manet_lib.studies.perturbed_masks import (
    CHANGE,
    PERTURBED_MASKS,
    _score,
    perturbed_masks,
    score_masks,
    try_perturbed_masks,
)
from manet_lib.training.classification import load_classifier, read_predictions, segmented_pairs, train_classifier
from manet_lib.workflow.steps import mask_scores_step


def lungs(side=64):
    y, x = np.mgrid[:side, :side] / side - 0.5
    shifts = np.linspace(-0.1, 0.1, 5)
    return np.stack([(y - shift) ** 2 / 0.14 + (abs(x) - 0.2) ** 2 / 0.02 < 1 for shift in shifts])


def test_perturbed_masks_are_what_they_are_called():
    own = lungs()
    made = perturbed_masks(own)
    assert tuple(made) == PERTURBED_MASKS
    pixels = round(64 * CHANGE)
    for mask, less, more in zip(own, made["shrunk"], made["grown"], strict=True):
        assert less.sum() < mask.sum() < more.sum()
        assert not (less & ~mask).any()
        np.testing.assert_array_equal(more, grown(mask, pixels))
    others = made["mismatched"]
    assert not any(np.array_equal(mask, other) for mask, other in zip(own, others, strict=True))
    assert {mask.tobytes() for mask in others} == {mask.tobytes() for mask in own}
    assert made["whole image"].all()
    np.testing.assert_array_equal(perturbed_masks(own)["mismatched"], others)


@pytest.fixture
def run(tiny_run, tmp_path, monkeypatch):
    return tiny_run.copy_to(tmp_path, monkeypatch)


def test_masks_are_scored_on_the_test_images_of_stage_1(run):
    assert score_masks(run.params, run.paths)
    scores = pd.read_csv(run.paths.mask_scores / "scores.csv")
    manifest = read_manifest(run.paths)
    tested = manifest[manifest["seg_split"] == "test"]
    assert set(scores["image_id"]) == set(tested["image_id"])
    assert set(scores["mask"]) == {"raw", "clean"}
    iou = pd.read_csv(run.paths.iou).set_index("image_id")["iou"]
    raw = scores[scores["mask"] == "raw"].set_index("image_id")["iou"]
    pd.testing.assert_series_equal(raw.sort_index(), iou.loc[raw.index].sort_index(), atol=2e-3, check_dtype=False)
    table = mask_scores_table(scores, run.params)
    assert table["Images"].iloc[-1] == len(tested) == table["Images"].iloc[:-1].sum()
    assert not score_masks(run.params, run.paths)


def test_post_processing_is_the_difference_on_the_same_images(own_params, tmp_path):
    rows = [("a", "raw", 0.5, 0.6, 4.0), ("a", "clean", 0.7, 0.8, 2.0), ("b", "raw", 0.9, 0.9, 1.0)]
    rows += [("b", "clean", 0.8, 0.9, float("nan"))]
    scores = pd.DataFrame(rows, columns=["image_id", "mask", "iou", "dice", "distance"])
    table = postprocessing_table(
        scores.assign(compared_with="test masks", label="sick"), own_params(tmp_path, image_size=64)
    )
    row = table.iloc[0]
    assert (row["Better"], row["Worse"], row["Images"]) == (1, 1, 2)
    assert row["IoU (%), change"].startswith("+5.00 (")
    assert row["Surface distance (% of the side), change"] == "-3.12", "one image has no interval"


def own_images(tmp_path, column):
    folder = write_images(tmp_path / "own", each=8, masked=4, labels=("healthy", "sick"))
    listing = pd.read_csv(folder / "index.csv")
    side = Image.open(folder / listing["path"][0]).size
    for name in listing["path"]:
        Image.fromarray(np.tri(side[1], side[0], dtype=np.uint8) * 255).save(folder / f"reference_{name}")
    listing.assign(**{column: "reference_" + listing["path"]}).to_csv(folder / "index.csv", index=False)
    return folder


def finished(run, tmp_path, folder, column):
    """The run as if it had been made of these images: only what the scores read of it."""
    listing = pd.read_csv(folder / "index.csv", dtype=str, keep_default_na=False)
    manifest = (
        read_manifest(run.paths)
        .head(len(listing))
        .assign(
            path=listing["path"],
            label=listing["label"],
            mask_path="",
            height=40,
            width=48,
            seg_split=[*["train"] * 3, *[""] * 13],
        )
    )
    manifest.to_csv(run.paths.manifest, index=False)
    changes = {"data_source": "manifest", "data_dir": str(folder), "reference_masks": column}
    return run.params.model_copy(update=changes)


def test_reference_masks_score_images_that_did_not_train_stage_1(run, tmp_path):
    params = finished(run, tmp_path, own_images(tmp_path, "drawn by others"), "drawn by others")
    _score(params, run.paths)
    scores = pd.read_csv(run.paths.mask_scores / "scores.csv")
    assert set(scores["compared_with"]) == {"reference masks"}
    assert scores["image_id"].nunique() == 13
    manifest = read_manifest(run.paths).set_index("image_id")
    clean = np.load(run.paths.clean_masks, mmap_mode="r")
    first = scores[scores["mask"] == "clean"].iloc[0]
    mask = clean[list(manifest.index).index(first["image_id"])] > 0
    drawn = Image.open(tmp_path / "own" / f"reference_{manifest.loc[first['image_id'], 'path']}")
    reference = np.asarray(drawn.resize((64, 64), Image.Resampling.NEAREST)) > 127
    assert first["iou"] == pytest.approx((mask & reference).sum() / (mask | reference).sum(), abs=0.01)


def test_a_reference_column_that_is_not_there_is_named(run, tmp_path, refused):
    params = finished(run, tmp_path, own_images(tmp_path, "second_mask"), "second_masks")
    with refused("reference_masks", "second_masks", "'second_mask'"):
        _score(params, run.paths)


def test_changed_reference_masks_are_noticed(run, tmp_path):
    folder = own_images(tmp_path, "reference")
    params = finished(run, tmp_path, folder, "reference")
    before = mask_scores_step(params, run.paths).outside()
    Image.new("L", (64, 64), 255).save(folder / "reference_sick3.png")
    assert mask_scores_step(params, run.paths).outside() != before
    assert mask_scores_step(run.params, run.paths).outside() == {}


def test_perturbed_masks_are_given_to_the_trained_network(run):
    params, paths = run.params, run.paths
    train_classifier(params, paths, "resnet34_ma", 1)
    assert try_perturbed_masks(params, paths, [("resnet34_ma", 1)])
    found = pd.read_csv(paths.perturbed_masks / "predictions.csv")
    tested = read_predictions(paths, "resnet34_ma", 1)
    assert tested is not None
    assert len(found) == 4 * len(tested)
    whole = found[found["mask"] == "whole image"].set_index("image_id")
    data = segmented_pairs(params, paths, read_manifest(paths), ["test"])
    network = load_classifier(params, paths, "resnet34_ma", 1)
    for position, name in enumerate(data.names):  # by hand: nothing is blackened, and the mask is all ones
        stored = data.images[data.rows[position]]
        image = data.scale(data[0, position][0].new_tensor(stored)[None, None])
        scores = network(image, image.new_ones(image.shape))[0].tolist()
        best, second = sorted(scores)[:-3:-1]
        if best - second > 0.05:  # else bf16 may decide otherwise
            assert whole.loc[name, "predicted"] == params.classes[int(np.argmax(scores))]

    params = params.model_copy(update={"models": ["resnet34_ma"]})
    table = perturbed_masks_table(found, params, paths)
    assert table["Mask"].tolist() == ["its own", *PERTURBED_MASKS]
    right = (whole["label"] == whole["predicted"]).mean()
    assert table["Accuracy (%)"].iloc[-1] == f"{100 * right:.1f}"
    spread = accuracy_by_mask(found, params, paths)
    assert spread["accuracy"].between(spread["low"], spread["high"]).all()


def test_a_missing_training_is_named(run):
    with pytest.raises(UserError, match="resnet34-1"):
        try_perturbed_masks(run.params, run.paths, [("resnet34", 1)])
