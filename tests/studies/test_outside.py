"""A study that trains on one hospital's images and tests on another's: who sees which images and masks."""

import numpy as np
import pandas as pd
import pytest
from test_studies import PLAN

from manet_lib.data.manifest import read_manifest
from manet_lib.data.store import Store
from manet_lib.params import load_params
from manet_lib.paths import params_file
from manet_lib.studies.images import Prepared, listed
from manet_lib.studies.plan import Study
from manet_lib.workflow.records import read_table

TESTS = ["as trained", "outside", "outside, annotated masks", "outside, matched"]
SEGMENTATION = {"seg_epochs": 1, "seg_batch_size": 4}


@pytest.fixture
def hospitals(own_images):
    """A folder with 24 images of each class from the hospital `here`, and 8 of each from `there`."""
    folder = own_images(each=32, masked=32, labels=("normal", "tb"))
    table = pd.read_csv(folder / "index.csv")
    number = table["path"].str.extract(r"(\d+)")[0].astype(int)
    table["source"] = np.where(number < 24, "here", "there")
    table.loc[number >= 28, "mask_path"] = ""
    table.to_csv(folder / "index.csv", index=False)
    return folder


def study_of(folder, **outside):
    settings = {"data_source": "manifest", "data_dir": str(folder), "classes": ["normal", "tb"], "image_size": 32}
    condition = {"settings": settings | SEGMENTATION, "images": {"source": ["here"]}, "outside": outside}
    return Study.model_validate(PLAN | {"tests": TESTS, "conditions": {"here to there": condition}})


def test_networks_are_trained_in_one_hospital_and_tested_in_both(hospitals):
    prepared = Prepared("own", study_of(hospitals, source=["there"]), "here to there", seed=0)
    manifest = read_manifest(prepared.paths)
    assert set(manifest["source"]) == {"here"}
    assert len(manifest) == 48
    assert set(read_table(prepared.paths.iou)["image_id"]) <= set(manifest["image_id"]), (
        "stage 1 saw none of there"
    )

    rows, _, masks = prepared.tests["as trained"]
    assert set(rows["image_id"]) == set(manifest.loc[manifest["split"] == "test", "image_id"])
    assert (masks == np.load(prepared.paths.clean_masks)[rows.index]).all()

    rows, images, masks = prepared.tests["outside"]
    assert set(rows["source"]) == {"there"}
    assert rows["label"].value_counts().to_dict() == {"normal": 8, "tb": 8}
    assert images.shape == masks.shape == (16, 32, 32)

    annotated, _, truth = prepared.tests["outside, annotated masks"]
    listing = pd.read_csv(hospitals / "index.csv")
    drawn = listing[(listing["source"] == "there") & listing["mask_path"].notna()]
    assert len(annotated) == len(drawn) == 8
    assert truth.any(axis=(1, 2)).all()

    _, matched, same_masks = prepared.tests["outside, matched"]
    assert (same_masks == masks).all()
    train = Store.open(prepared.paths.store).images[manifest.index[manifest["split"] == "train"]]
    quantiles = np.linspace(0.1, 0.9, 9)
    assert np.quantile(matched, quantiles) == pytest.approx(np.quantile(train, quantiles), abs=3)


def test_the_other_hospital_is_looked_up_in_the_listing_of_the_study(hospitals, refused):
    (hospitals / "index.csv").rename(hospitals / "mine.csv")
    study = study_of(hospitals, source=["there"])
    condition = study.conditions["here to there"]
    condition.settings["data_csv"] = "mine.csv"
    prepared = Prepared("own", study, "here to there", seed=0)
    assert set(prepared.tests["outside"][0]["source"]) == {"there"}
    condition.settings["data_csv"] = "nowhere.csv"
    with refused("data_csv: nowhere.csv: no such file"):
        Prepared("own", study, "here to there", seed=1)


def test_a_hospital_that_the_listing_lacks_is_named(hospitals, refused):
    params = load_params(
        params_file("tiny"), data_source="manifest", data_dir=str(hospitals), classes=["normal", "tb"]
    )
    with refused("index.csv has no row with source nowhere"):
        listed(params, {"source": ["nowhere"]})
