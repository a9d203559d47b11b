from __future__ import annotations

from collections import Counter
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import hypergeom

from manet_lib.data.manifest import build_manifest, read_manifest, same_patient_share
from manet_lib.data.splits import SPLITS, join_patients, split_images, split_pairs, split_patients
from manet_lib.data.store import build_store
from manet_lib.params import CLASSES, Params
from manet_lib.paths import RunPaths
from manet_lib.report.tables import published

TOTALS = {"normal": 1840, "covid19": 433, "tb": 394, "bp": 2780, "vp": 1345}
SIZES = {"train": 5433, "val": 679, "test": 680}


class TestOverImages:
    def test_sizes_of_table_1(self) -> None:
        assert sum(TOTALS.values()) == 6792
        for seed in range(5):
            assert Counter(split_images(6792, 0.1, 0.1, seed)) == SIZES

    @pytest.mark.parametrize("count", [10, 11, 19, 20, 100, 101, 999, 6792])
    @pytest.mark.parametrize(("val", "test"), [("0.1", "0.1"), ("0.1", "0.2"), ("0.29", "0.1"), ("0.07", "0.14")])
    def test_training_and_validation_take_whole_parts(self, count: int, val: str, test: str) -> None:
        sizes = Counter(split_images(count, float(val), float(test), 0))
        assert sizes["val"] == int(count * Fraction(val))
        assert sizes["train"] == int(count * (1 - Fraction(val) - Fraction(test)))
        assert sizes.total() == count

    def test_seeded(self) -> None:
        assert split_images(500, 0.1, 0.1, 3) == split_images(500, 0.1, 0.1, 3)
        assert len({tuple(split_images(500, 0.1, 0.1, seed)) for seed in range(10)}) == 10

    def test_every_image_is_tested_under_some_seed(self) -> None:
        tested = np.zeros(100)
        for seed in range(300):
            tested += np.array(split_images(100, 0.1, 0.1, seed)) == "test"
        assert tested.min() > 10  # 30 expected, spread 5.2
        assert tested.max() < 55

    def test_printed_counts_are_those_of_an_unstratified_split(self) -> None:
        printed = published("table1_distribution").set_index("set").astype(int)
        deviations = []
        for name, total in TOTALS.items():
            assert printed.loc["total", name] == total
            for side, size in SIZES.items():
                chance = hypergeom(6792, total, size)
                assert chance.cdf(printed.loc[side, name]) > 0.001
                assert chance.sf(printed.loc[side, name] - 1) > 0.001
                deviations.append(abs(printed.loc[side, name] - total * size / 6792))
        assert max(deviations) > 5  # stratified, all would be below 1

    def test_own_counts_are_those_of_an_unstratified_split(self) -> None:
        labels = np.repeat(list(TOTALS), list(TOTALS.values()))
        counts = []
        for seed in range(100):
            tested = np.array(split_images(6792, 0.1, 0.1, seed)) == "test"
            counts.append([(labels[tested] == name).sum() for name in TOTALS])
        for column, total in zip(np.array(counts).T, TOTALS.values(), strict=True):
            chance = hypergeom(6792, total, 680)
            assert abs(column.mean() - chance.mean()) < 4 * chance.std() / 10
            assert 0.7 < column.std() / chance.std() < 1.3


def _hospital(seed: int, patients: int = 400) -> pd.DataFrame:
    """Images of patients with one to eight images; some patients have images of two classes."""
    rng = np.random.default_rng(seed)
    rows = []
    for patient in range(patients):
        label = rng.choice(CLASSES, p=[0.3, 0.1, 0.1, 0.3, 0.2])
        for _ in range(rng.choice([1, 1, 1, 2, 3, 8])):
            rows.append((f"p{patient}", rng.choice(["normal", label]) if patient % 20 == 0 else label))
    return pd.DataFrame(rows, columns=["patient", "label"]).sample(frac=1, random_state=seed, ignore_index=True)


class TestOverPatients:
    @pytest.mark.parametrize("seed", range(5))
    def test_no_patient_is_on_two_sides(self, seed: int) -> None:
        images = _hospital(seed)
        images["split"] = split_patients(images["label"], images["patient"], 0.1, 0.2, seed)
        assert (images.groupby("patient")["split"].nunique() == 1).all()
        assert set(images["split"]) == set(SPLITS)

    @pytest.mark.parametrize("seed", range(5))
    def test_every_class_gets_about_its_shares(self, seed: int) -> None:
        images = _hospital(seed)
        images["split"] = split_patients(images["label"], images["patient"], 0.1, 0.2, seed)
        shares = pd.crosstab(images["label"], images["split"], normalize="index")
        for side, wanted in (("train", 0.7), ("val", 0.1), ("test", 0.2)):
            assert (shares[side] - wanted).abs().max() < 0.08

    def test_patients_with_many_images_are_on_all_sides_alike(self) -> None:
        shares = []
        for seed in range(20):
            images = _hospital(seed)
            images["split"] = split_patients(images["label"], images["patient"], 0.1, 0.2, seed)
            many = images.groupby("patient")["label"].transform("size") > 1
            shares.append(many.groupby(images["split"]).mean())
        mean = pd.DataFrame(shares).mean()
        assert mean.max() - mean.min() < 0.05, "dealt out from the largest, training alone would have them"

    def test_single_images_are_divided_exactly(self) -> None:
        labels = pd.Series(np.repeat(["a", "b"], [50, 200]))
        sides = split_patients(labels, pd.Series(range(250)).astype(str), 0.1, 0.1, 0)
        assert pd.crosstab(labels, pd.Series(sides)).loc["b"].to_dict() == {"test": 20, "train": 160, "val": 20}
        assert pd.crosstab(labels, pd.Series(sides)).loc["a"].to_dict() == {"test": 5, "train": 40, "val": 5}

    def test_seeded_and_independent_of_the_order_of_the_images(self) -> None:
        images = _hospital(1)
        images["split"] = split_patients(images["label"], images["patient"], 0.1, 0.1, 7)
        mixed = images.sample(frac=1, random_state=5, ignore_index=True)
        assert split_patients(mixed["label"], mixed["patient"], 0.1, 0.1, 7) == mixed["split"].tolist()
        assert split_patients(images["label"], images["patient"], 0.1, 0.1, 8) != images["split"].tolist()


class TestJoinedPatients:
    def test_groups_are_those_of_a_search(self) -> None:
        rng = np.random.default_rng(0)
        patients = pd.Series(rng.integers(0, 60, 120).astype(str))
        hashes = pd.Series(rng.integers(0, 140, 120).astype(str))
        joined = join_patients(patients, hashes)
        images = list(zip(patients, hashes, strict=True))
        group = list(range(120))
        for _ in range(120):  # spread each image's group to all that share its patient or its hash
            group = [
                min(group[other] for other in range(120) if images[other][0] == p or images[other][1] == h)
                for p, h in images
            ]
        assert np.array_equal(pd.factorize(joined)[0], pd.factorize(pd.Series(group))[0])
        assert set(joined) <= set(patients)

    def test_nothing_shared_changes_nothing(self) -> None:
        patients = pd.Series(["a", "b", "a", "c"], index=[4, 2, 9, 1])
        joined = join_patients(patients, pd.Series(list("wxyz"), index=patients.index))
        pd.testing.assert_series_equal(joined, patients, check_names=False)

    def test_chain(self) -> None:
        joined = join_patients(pd.Series(["a", "b", "b", "c", "d"]), pd.Series(["1", "1", "2", "2", "3"]))
        assert joined.tolist() == ["a", "a", "a", "a", "d"]


class TestOverPairs:
    def test_the_papers_pairs(self) -> None:
        printed = published("segmentation_iou").set_index("class").loc["overall"]
        has_mask = pd.Series(np.arange(6792) < 906)
        sides = split_images(6792, 0.1, 0.1, 0)
        pairs = Counter(split_pairs(has_mask, sides, "image", 0.1, 0))
        assert pairs == {"train": int(printed["train_pairs"]), "test": int(printed["test_pairs"]), "": 6792 - 906}
        assert pairs["test"] == 91

    def test_only_images_with_a_mask_and_seeded(self) -> None:
        has_mask = pd.Series(np.random.default_rng(0).random(300) < 0.4)
        sides = split_images(300, 0.1, 0.1, 0)
        drawn = [split_pairs(has_mask, sides, "image", 0.1, seed) for seed in (0, 0, 1)]
        assert [side != "" for side in drawn[0]] == has_mask.tolist()
        assert drawn[0] == drawn[1] != drawn[2]

    def test_over_patients_no_tested_patient_is_trained_on(self) -> None:
        images = _hospital(2)
        sides = split_patients(images["label"], images["patient"], 0.1, 0.2, 0)
        has_mask = images["label"].isin(["normal", "tb"])
        images["pairs"] = split_pairs(has_mask, sides, "patient", 0.1, 0)
        tested = set(images.loc[np.array(sides) == "test", "patient"])
        assert not images.loc[images["pairs"] == "train", "patient"].isin(tested).any()
        assert images.loc[images["pairs"] == "test", "patient"].isin(tested).all()
        assert ((images["pairs"] != "") == has_mask).all()

    @pytest.mark.parametrize("masks", [0, 1])
    def test_too_few_masks(self, masks: int, refused: Any) -> None:
        has_mask = pd.Series(np.arange(50) < masks)
        with refused("mask_path", str(masks)):
            split_pairs(has_mask, split_images(50, 0.1, 0.1, 0), "image", 0.1, 0)

    def test_pairs_of_one_side_only(self, refused: Any) -> None:
        sides = split_images(50, 0.1, 0.1, 0)
        has_mask = pd.Series([side == "train" for side in sides])
        with refused("mask_path", "one side"):
            split_pairs(has_mask, sides, "patient", 0.1, 0)


class TestManifest:
    def _params(self, **changes: Any) -> Params:
        values: dict[str, Any] = {
            "profile": "x",
            "phantom_images": 20,
            "phantom_size": 64,
            "image_size": 64,
            "models": ["vgg16"],
            "test_fraction": 0.2,
            "batch_size": 8,
        }
        return Params(**(values | changes))

    def test_holds_the_split_once_and_for_all(self, paths: RunPaths) -> None:
        params = self._params(phantom_images=40)
        build_store(params, paths)
        assert build_manifest(params, paths)
        manifest = read_manifest(paths)
        assert Counter(manifest["split"]) == {"train": 28, "val": 4, "test": 8}
        assert Counter(manifest["seg_split"]) == {"train": 36, "test": 4}
        assert manifest["image_id"].is_unique
        assert not build_manifest(params, paths)
        assert build_manifest(params.model_copy(update={"split": "patient"}), paths)
        assert (read_manifest(paths).groupby("patient")["split"].nunique() == 1).all()

    def test_same_seed_gives_the_same_bytes(self, paths: RunPaths) -> None:
        contents = []
        for seed in (0, 1, 0):
            build_store(self._params(seed=seed), paths)
            build_manifest(self._params(seed=seed), paths)
            contents.append(paths.manifest.read_bytes())
        assert contents[0] == contents[2] != contents[1]

    def test_identical_images(self, own_images: Any, own_params: Any, paths: RunPaths) -> None:
        folder = own_images(each=20, masked=10)
        for number in (1, 2):
            (folder / f"healthy{number}.png").write_bytes((folder / "healthy0.png").read_bytes())
        params = own_params(folder, split="patient", test_fraction=0.2, batch_size=8)
        build_store(params, paths)
        build_manifest(params, paths)
        together = read_manifest(paths).set_index("image_id").loc[["healthy0", "healthy1", "healthy2"]]
        assert together["split"].nunique() == 1
        for split in ("image", "patient"):
            build_manifest(params.model_copy(update={"drop_identical": True, "split": split}), paths)
            manifest = read_manifest(paths).set_index("image_id")
            unused = manifest[manifest["split"] == ""]
            assert unused.index.tolist() == ["healthy1", "healthy2"]
            assert (unused["seg_split"] == "").all()
            assert Counter(manifest["split"]).total() == 40

    def test_too_few_images(self, own_images: Any, own_params: Any, paths: RunPaths, refused: Any) -> None:
        params = own_params(own_images(each=4, masked=2))
        build_store(params, paths)
        with refused("8 images", "val"):
            build_manifest(params, paths)

    def test_before_it_is_written(self, paths: RunPaths, refused: Any) -> None:
        with refused("manifest.csv", "make reproduce"):
            read_manifest(paths)


def test_share_of_patients_on_both_sides() -> None:
    images = _hospital(3)
    images["split"] = split_images(len(images), 0.1, 0.2, 0)
    share = same_patient_share(images)
    for label in CLASSES:
        tested = images[(images["split"] == "test") & (images["label"] == label)]
        known = [
            any((images["patient"] == image.patient) & (images["split"] == "train"))
            for image in tested.itertuples()
        ]
        assert share[label] == pytest.approx(sum(known) / len(known))
    assert share.max() > 0
    images["split"] = split_patients(images["label"], images["patient"], 0.1, 0.2, 0)
    assert (same_patient_share(images) == 0).all()
