from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_erosion
from scipy.stats import chi2_contingency

from manet_lib.data import phantom
from manet_lib.data.phantom import SOURCES, Phantom, draw_phantom, write_phantoms
from manet_lib.data.splits import split_images
from manet_lib.evaluation.baseline import lung_statistics, predicted_correctly
from manet_lib.params import CLASSES
from manet_lib.paths import project_root

PATIENTS = range(6)


@cache
def _images(label: str) -> list[Phantom]:
    return [draw_phantom(label, patient, size=96) for patient in PATIENTS]


def _bytes_of(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _left(mask: NDArray[np.bool_]) -> int:
    return int(mask[:, : mask.shape[1] // 2].sum())


def _right(mask: NDArray[np.bool_]) -> int:
    return int(mask[:, mask.shape[1] // 2 :].sum())


def test_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    for name, seed in (("one", 3), ("two", 3), ("three", 4)):
        write_phantoms(tmp_path / name, 10, 64, seed, 0.5)
    one, two, three = (_bytes_of(tmp_path / name) for name in ("one", "two", "three"))
    assert len(one) == 3 * 10 + 1
    assert one == two
    images = [name for name in one if name.startswith("images/")]
    assert all(one[name] != three[name] for name in images)
    assert len({one[name] for name in images}) == 10


def test_set_is_spread_evenly_and_indexed(tmp_path: Path) -> None:
    index = write_phantoms(tmp_path, 40, 64, 0, 0.5)
    assert index["label"].value_counts().to_dict() == dict.fromkeys(CLASSES, 8)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "index.csv", dtype=str), index, check_dtype=False)
    for name in [*index["path"], *index["mask_path"]]:
        assert (tmp_path / name).is_file()
    images = index.groupby(["label", "patient"]).size()
    assert images.groupby("label").apply(lambda counts: sorted(counts)).tolist() == [[1, 1, 1, 1, 2, 2]] * 5


@pytest.mark.parametrize("label", CLASSES)
class TestFilm:
    def test_form(self, label: str) -> None:
        for image in _images(label):
            assert image.image.dtype == np.uint8
            assert image.image.shape == image.lungs.shape == image.lesions.shape == (96, 96)
            assert image.lungs.dtype == image.lesions.dtype == np.bool_
            assert image.source in SOURCES

    def test_lesions_are_in_the_lungs(self, label: str) -> None:
        for image in _images(label):
            assert not (image.lesions & ~image.lungs).any()
            assert image.lesions.any() == (label != "normal")

    def test_two_lungs_of_plausible_size(self, label: str) -> None:
        for image in _images(label):
            assert 0.12 < image.lungs.mean() < 0.45
            assert 0.25 < _left(image.lungs) / image.lungs.sum() < 0.75
            edge = [image.lungs[0], image.lungs[-1], image.lungs[:, 0], image.lungs[:, -1]]
            assert not np.concatenate(edge).any()

    def test_air_is_dark(self, label: str) -> None:
        for image in _images(label):
            body = image.image[48, 20:76]  # across the chest at half height
            inside = image.lungs[48, 20:76]
            assert body[inside].mean() < body[~inside].mean()

    def test_images_of_a_patient_share_the_anatomy(self, label: str) -> None:
        one, again = (draw_phantom(label, 1, image, size=64) for image in (0, 1))
        other = draw_phantom(label, 2, 0, size=64)
        assert np.array_equal(one.lungs, again.lungs)
        assert not np.array_equal(one.image, again.image)
        assert not np.array_equal(one.lungs, other.lungs)


def test_heart_takes_from_the_lung_on_the_right_of_the_picture() -> None:
    images = [image for label in CLASSES for image in _images(label)]
    assert all(_right(image.lungs) < _left(image.lungs) for image in images)


def test_covid19_is_bilateral_and_peripheral() -> None:
    axis = np.abs(np.arange(96) - 47.5)
    for image in _images("covid19"):
        assert min(_left(image.lesions), _right(image.lesions)) > 0.1 * image.lesions.sum()
        from_the_middle = [np.average(axis, weights=mask.sum(axis=0)) for mask in (image.lesions, image.lungs)]
        assert from_the_middle[0] > from_the_middle[1]


def test_tb_is_in_the_upper_zones() -> None:
    rows = np.arange(96)
    for image in _images("tb"):
        lesions, lungs = (np.average(rows, weights=mask.sum(axis=1)) for mask in (image.lesions, image.lungs))
        assert lesions < lungs
        assert image.lesions[: int(lungs)].sum() > 0.9 * image.lesions.sum()


def test_bacterial_pneumonia_is_one_sided() -> None:
    sides = set()
    for image in _images("bp"):
        assert min(_left(image.lesions), _right(image.lesions)) == 0
        sides.add(_left(image.lesions) > 0)
    assert sides == {True, False}


def test_viral_pneumonia_is_in_both_lungs() -> None:
    for image in _images("vp"):
        assert min(_left(image.lesions), _right(image.lesions)) > 0.25 * image.lesions.sum()


@pytest.mark.parametrize("source", SOURCES)
def test_source_cannot_be_told_without_confounders(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    odds = tuple(float(name == source) for name in SOURCES)
    before = {strength: draw_phantom("bp", 0, size=64, confounder_strength=strength) for strength in (0.0, 1.0)}
    monkeypatch.setattr(phantom, "_SOURCE_ODDS", {"bp": odds})
    after = {strength: draw_phantom("bp", 0, size=64, confounder_strength=strength) for strength in (0.0, 1.0)}
    assert after[0.0].source == source
    assert np.array_equal(before[0.0].image, after[0.0].image)
    assert np.array_equal(before[1.0].image, after[1.0].image) == (before[1.0].source == source)


@pytest.mark.parametrize("label", CLASSES)
def test_confounders_leave_the_lungs_alone(label: str) -> None:
    for patient in PATIENTS:
        plain, marked = (
            draw_phantom(label, patient, size=96, confounder_strength=strength) for strength in (0.0, 1.0)
        )
        assert np.array_equal(plain.lungs, marked.lungs)
        assert np.array_equal(plain.lesions, marked.lesions)
        changed = plain.image != marked.image
        assert changed.any()
        assert not changed[binary_erosion(plain.lungs, iterations=2)].any()


@pytest.mark.parametrize(("source", "most"), [("north", 0), ("south", 4), ("east", 2)])
def test_confounders_reach_the_edge_of_the_lungs_as_far_as_the_limitations_say(source: str, most: int) -> None:
    text = (project_root() / "docs" / "limitations.md").read_text(encoding="utf-8")
    assert "by at most 4 (south) and 2 (east) of 255" in text
    for label in CLASSES:
        plain = draw_phantom(label, 0, size=128, confounder_strength=0)
        marked = draw_phantom(label, 0, size=128, confounder_strength=1, source=source)
        change = np.abs(marked.image.astype(int) - plain.image)[plain.lungs].max()
        assert min(most, 1) <= change <= most


def test_confounders_grow_with_their_strength() -> None:
    images = [draw_phantom("bp", 1, size=64, confounder_strength=s).image.astype(float) for s in (0, 0.25, 0.5, 1)]
    change = [np.abs(image - images[0]).mean() for image in images]
    assert change == sorted(change)
    assert len(set(change)) == 4


@pytest.fixture(scope="module")
def unmarked(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[pd.DataFrame, NDArray[np.uint8], NDArray[np.uint8]]:
    """400 images of 64 pixels without confounders: index, images, lung masks."""
    folder = tmp_path_factory.mktemp("unmarked")
    index = write_phantoms(folder, 400, 64, 0, 0.0)
    images, masks = (
        np.stack([np.asarray(Image.open(folder / name)) for name in index[column]])
        for column in ("path", "mask_path")
    )
    return index, images, (masks > 127).astype(np.uint8)


@pytest.mark.slow
def test_brightness_alone_does_not_tell_the_classes(
    unmarked: tuple[pd.DataFrame, NDArray[np.uint8], NDArray[np.uint8]],
) -> None:
    index, images, masks = unmarked
    features = lung_statistics(images, masks)
    splits = (split_images(len(index), 0.1, 0.2, seed) for seed in range(10))
    right = np.stack([predicted_correctly(features, index.assign(split=split), "label") for split in splits])
    assert right.shape == (10, 80)
    assert 0.2 < right.mean() < 0.5


@pytest.mark.slow
def test_source_goes_with_the_class(
    unmarked: tuple[pd.DataFrame, NDArray[np.uint8], NDArray[np.uint8]],
) -> None:
    table = pd.crosstab(unmarked[0]["label"], unmarked[0]["source"])
    assert chi2_contingency(table).pvalue < 1e-20
    assert (table.to_numpy() > 0).sum() >= 12  # but no class comes from one source alone
