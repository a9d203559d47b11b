"""The manifest: one row per image, the only description of a data set that later steps read."""

from collections import Counter

import pandas as pd

from manet_lib.data.splits import SPLITS, join_patients, missing_classes, split_images, split_pairs, split_patients
from manet_lib.data.store import Store
from manet_lib.params import Params, UserError
from manet_lib.paths import RunPaths, reproduce_command
from manet_lib.workflow.parameters import view
from manet_lib.workflow.records import read_table, write_csv
from manet_lib.workflow.steps import manifest_step

COLUMNS = (
    *("image_id", "path", "label", "source", "patient", "mask_path", "width", "height", "sha256"),
    *("split", "seg_split"),
)


def build_manifest(params: Params, paths: RunPaths) -> bool:
    """Split the images of the store and write the manifest, one row per image in the store's order.

    ``split`` is stage 2's side (train, val, test), ``seg_split`` stage 1's (train, test, or empty without mask).
    Where byte-identical images are dropped, all but the first have neither. A class that a side lacks is named.

    Returns:
        Whether there was anything to do.

    Raises:
        UserError: a split would leave a side empty, or the training set smaller than a batch of stage 2.
    """
    did = manifest_step(params, paths).run(lambda: _build(view(params, "manifest"), paths))
    count = int((read_manifest(paths)["split"] == "train").sum())
    if count < params.batch_size:
        raise UserError(
            f"batch_size: {params.batch_size} images, but the training set has {count}; expected at most that"
        )
    return did


def _build(params: Params, paths: RunPaths) -> None:
    index = Store.open(paths.store).index
    fractions = params.val_fraction, params.test_fraction, params.seed
    drop = params.drop_identical or (params.data_source == "public" and params.composition == "all")
    dropped = index["sha256"].duplicated() if drop else pd.Series(False, index=index.index)
    kept = index[~dropped]
    if params.split == "image":
        chosen = split_images(len(kept), *fractions)
    else:
        chosen = split_patients(kept["label"], join_patients(kept["patient"], kept["sha256"]), *fractions)
    sides = pd.Series(chosen, index=kept.index).reindex(index.index, fill_value="").tolist()
    sizes = Counter(sides)
    empty = [side for side in SPLITS if not sizes[side]]
    if empty:
        raise UserError(f"split: {len(index)} images leave no image for {' and '.join(empty)}; add images")
    lacking = missing_classes(kept["label"], chosen, params.classes)
    if lacking:
        named = "; ".join(f"{label} has no image in {' and '.join(absent)}" for label, absent in lacking.items())
        ways = "add images, raise a fraction, set another seed, or split: patient, which spreads them"
        print(f"split: {named}; {ways}")
    has_mask = (index["mask_path"] != "") & ~dropped
    pairs = split_pairs(has_mask, sides, params.split, params.seg_test_fraction, params.seed)
    write_csv(paths.manifest, index.assign(split=sides, seg_split=pairs)[list(COLUMNS)])


def read_manifest(paths: RunPaths) -> pd.DataFrame:
    """Read the manifest of a run.

    Raises:
        UserError: it has not been written yet.
    """
    if not paths.manifest.is_file():
        raise UserError(f"manifest.csv: not written yet; run `{reproduce_command(paths.root.name)}`")
    return read_table(paths.manifest)


def identical_images(manifest: pd.DataFrame) -> pd.DataFrame:
    """Groups of images whose files are byte-identical, a row for each group: images, classes, image_ids."""
    twins = manifest[manifest["sha256"].duplicated(keep=False)]
    groups = twins.groupby("sha256", sort=False)
    return pd.DataFrame(
        [(len(part), ", ".join(sorted(set(part["label"]))), ", ".join(part["image_id"])) for _, part in groups],
        columns=["images", "classes", "image_ids"],
    )


def stage_1_share(manifest: pd.DataFrame) -> pd.Series:
    """Share of stage 2's test images with an annotated mask, by class, that stage 1 was trained with: a leak."""
    test = manifest[(manifest["split"] == "test") & (manifest["mask_path"] != "")]
    return (test["seg_split"] == "train").groupby(test["label"]).mean()


def same_patient_share(manifest: pd.DataFrame) -> pd.Series:
    """Share of test images, by class, with an image of the same patient in training: leakage of the split."""
    train = set(manifest.loc[manifest["split"] == "train", "patient"])
    test = manifest[manifest["split"] == "test"]
    return test["patient"].isin(train).groupby(test["label"]).mean()
