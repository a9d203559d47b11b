"""The images of a study: those that its networks are trained on, and those on which they are tested."""

from functools import cached_property

import numpy as np
import pandas as pd

from manet_lib.data.manifest import build_manifest, read_manifest
from manet_lib.data.postprocess import clean_masks
from manet_lib.data.sources.own import listing_of
from manet_lib.data.store import Store, build_store
from manet_lib.params import Params, UserError
from manet_lib.paths import RunPaths, expand
from manet_lib.studies.confounders import redrawn
from manet_lib.studies.perturbed_masks import perturbed_masks
from manet_lib.studies.plan import Rows, Study, digest_of, slug
from manet_lib.studies.testing import Images, lung_masks
from manet_lib.training.distributed import joined
from manet_lib.training.segmentation import predict_raw_masks, train_segmenter
from manet_lib.workflow.records import claimed, write_text
from manet_lib.workflow.steps import classification_step


def prepared(params: Params, outside: bool = False) -> RunPaths:
    """A run as far as its clean masks; of another hospital's images only the store and the manifest."""
    paths = RunPaths.of(params.profile)
    with claimed(paths.root, wait=True):
        build_store(params, paths)
        build_manifest(params, paths)
        if not outside:
            train_segmenter(params, paths)
            predict_raw_masks(params, paths)
            clean_masks(params, paths)
    return paths


def listed(params: Params, rows: Rows, key: str = "images") -> Params:
    """The parameters with a CSV that lists the chosen images alone; unchanged where all are."""
    if not rows:
        return params
    folder = expand(params.data_dir)
    table = listing_of(folder, params.data_csv)
    for column, values in rows.items():
        if column not in table or not table[column].isin(values).any():
            raise UserError(
                f"{key}: {params.data_csv} has no row with {column} {' or '.join(values)}; "
                f"change {key} of the condition"
            )
        table = table[table[column].isin(values)]
    file = RunPaths.of(params.profile).root / "images.csv"
    with claimed(file.parent, wait=True):
        text = table.to_csv(index=False)
        if not file.is_file() or file.read_text(encoding="utf-8") != text:
            write_text(file, text)
    return params.model_copy(update={"data_csv": str(file)})


class Prepared:
    """What training runs on the same images share: the run up to its clean masks, and the images of the tests."""

    def __init__(self, name: str, study: Study, condition: str, seed: int) -> None:
        profile = f"study_{slug(name)[:18]}_{digest_of([name, condition, seed])}"
        self.study = study
        self.given = study.params(profile, condition, seed)
        self.params = listed(self.given, study.conditions[condition].images)
        self.paths = prepared(self.params)
        self.outside_rows = study.conditions[condition].outside
        self.code = digest_of(classification_step(self.params, self.paths, self.params.models[0], 1).code())
        manifest = read_manifest(self.paths)
        self.test = manifest[manifest["split"] == "test"]

    @cached_property
    def tests(self) -> dict[str, tuple[pd.DataFrame, Images, Images]]:
        """By test: rows with image_id and label, images and masks, uint8 (N, S, S)."""
        images = Store.open(self.paths.store).images[self.test.index]
        masks = np.load(self.paths.clean_masks, mmap_mode="r")[self.test.index]
        found = {"as trained": (self.test, images, masks)}
        with joined(self.params) as ranks:
            for name in {"without", "swapped"} & {*self.study.tests}:
                drawn = redrawn(self.params, self.test, name)
                found[name] = (self.test, drawn, lung_masks(drawn, self.params, self.paths, ranks))
        for name, other in perturbed_masks(masks > 0).items():
            found[name] = (self.test, images, other.astype(np.uint8))
        if self.outside_rows:
            found |= self._outside()
        return {name: found[name] for name in self.study.tests}

    def _outside(self) -> dict[str, tuple[pd.DataFrame, Images, Images]]:
        profile = f"{self.params.profile}_out"
        given = self.given.model_copy(update={"profile": profile})
        params = listed(given, self.outside_rows, "outside")
        paths = prepared(params, outside=True)
        store, rows = Store.open(paths.store), read_manifest(paths)
        images = np.array(store.images)
        with joined(self.params) as ranks:
            masks = lung_masks(images, self.params, self.paths, ranks)
        manifest = read_manifest(self.paths)
        train = manifest.index[manifest["split"] == "train"]
        matched = matched_to(images, Store.open(self.paths.store).images[train])
        annotated = np.flatnonzero(rows["mask_path"] != "")
        return {
            "outside": (rows, images, masks),
            "outside, matched": (rows, matched, masks),
            "outside, annotated masks": (rows.iloc[annotated], images[annotated], store.masks[annotated]),
        }


def matched_to(images: Images, reference: Images) -> Images:
    """Images whose grey values, all together, are distributed as those of a reference: one mapping for all.

    Args:
        images: uint8 (N, S, S).
        reference: uint8 (M, S, S).
    """
    of_images, of_reference = (
        np.cumsum(np.bincount(one.ravel(), minlength=256)) / one.size for one in (images, reference)
    )
    return np.searchsorted(of_reference, of_images).clip(0, 255).astype(np.uint8)[images]
