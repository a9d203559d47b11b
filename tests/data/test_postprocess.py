from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from manet_lib.data.postprocess import clean_mask, clean_masks
from manet_lib.params import Params
from manet_lib.paths import RunPaths
from manet_lib.workflow.steps import raw_masks_step

Mask = NDArray[np.bool_]


def _regions(mask: Mask) -> list[list[tuple[int, int]]]:
    """Sets of pixels that touch by their sides, by flood filling."""
    height, width = mask.shape
    seen = np.zeros_like(mask)
    regions = []
    for start in zip(*np.nonzero(mask), strict=True):
        if seen[start]:
            continue
        seen[start] = True
        region, queue = [], [start]
        while queue:
            y, x = queue.pop()
            region.append((y, x))
            for near in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                if 0 <= near[0] < height and 0 <= near[1] < width and mask[near] and not seen[near]:
                    seen[near] = True
                    queue.append(near)
        regions.append(region)
    return regions


def _reference(mask: Mask, smallest: Fraction) -> Mask:
    height, width = mask.shape
    filled = mask.copy()
    for region in _regions(~mask):
        if all(0 < y < height - 1 and 0 < x < width - 1 for y, x in region):
            filled[tuple(zip(*region, strict=True))] = True
    kept = np.zeros_like(mask)
    for region in _regions(filled):
        if len(region) >= smallest * mask.size:
            kept[tuple(zip(*region, strict=True))] = True
    return kept


@pytest.mark.parametrize("density", [0.3, 0.5, 0.6, 0.7])
@pytest.mark.parametrize("percent", [0, 1, 3, 10])
def test_equals_flood_filling(density: float, percent: int) -> None:
    rng = np.random.default_rng(percent)
    for height, width in [(20, 20), (16, 25), (25, 16), (1, 30), (8, 8)] * 3:
        mask = rng.random((height, width)) < density
        expected = _reference(mask, Fraction(percent, 100))
        assert np.array_equal(clean_mask(mask, percent / 100), expected)


@pytest.mark.parametrize("percent", [1, 3, 7, 11, 14, 28, 29, 55, 57, 58])
def test_size_at_the_boundary(percent: int) -> None:
    # 0.07 * 100 is 7.000000000000001 in floating point, 0.29 * 100 is 28.999999999999996.
    mask = np.zeros((10, 10), bool)
    mask.flat[:percent] = True
    assert clean_mask(mask, percent / 100).sum() == percent
    mask.flat[percent - 1] = False
    assert clean_mask(mask, percent / 100).sum() == 0


def test_objects_that_touch_by_a_corner_are_two() -> None:
    mask = np.zeros((10, 10), bool)
    mask[0:2, 0:2] = mask[2:4, 2:4] = True
    assert clean_mask(mask, 0.04).sum() == 8
    assert clean_mask(mask, 0.05).sum() == 0


def test_hole_counts_towards_the_size_of_its_object() -> None:
    mask = np.zeros((10, 10), bool)
    mask[2:7, 2:7] = True
    mask[3:6, 3:6] = False  # 16 pixels around 9
    assert clean_mask(mask, 0.25).sum() == 25


def test_joined_lungs_stay_joined() -> None:
    # Section 2.2 suggests otherwise.
    mask = np.zeros((20, 30), bool)
    mask[4:16, 3:12] = mask[4:16, 18:27] = mask[9, 12:18] = True
    assert len(_regions(clean_mask(mask))) == 1


@pytest.mark.parametrize("value", [False, True])
def test_uniform_mask_stays(value: bool) -> None:
    mask = np.full((12, 9), value)
    assert np.array_equal(clean_mask(mask), mask)


def test_second_time_changes_nothing() -> None:
    rng = np.random.default_rng(1)
    for density in np.linspace(0.05, 0.95, 40):
        once = clean_mask(rng.random((32, 32)) < density, 0.02)
        assert np.array_equal(clean_mask(once, 0.02), once)


def test_leaves_its_argument_alone() -> None:
    mask = np.random.default_rng(2).random((16, 16)) < 0.5
    before = mask.copy()
    assert clean_mask(mask).dtype == np.bool_
    assert np.array_equal(mask, before)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.int64])
def test_other_types_are_refused(dtype: type) -> None:
    with pytest.raises(TypeError, match=np.dtype(dtype).name):
        clean_mask(np.zeros((4, 4), dtype))


@pytest.mark.parametrize("shape", [(4,), (1, 4, 4)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected"):
        clean_mask(np.zeros(shape, bool))


def test_masks_of_a_run(paths: RunPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = (np.random.default_rng(3).random((3, 24, 24)) < 0.6).astype(np.uint8)
    params = Params(profile="x", min_object_fraction=0.03)
    made = raw_masks_step(params, paths)
    alone = replace(made, inputs=[])  # nothing has to be trained for this
    monkeypatch.setattr("manet_lib.workflow.steps.raw_masks_step", lambda *_: alone)
    paths.raw_masks.parent.mkdir(parents=True)
    alone.run(lambda: np.save(paths.raw_masks, raw))
    assert clean_masks(params, paths)
    clean = np.load(paths.clean_masks)
    assert clean.dtype == np.uint8
    expected = [_reference(mask.astype(bool), Fraction(3, 100)) for mask in raw]
    assert np.array_equal(clean, np.array(expected, np.uint8))
    assert not clean_masks(params, paths)
    assert clean_masks(params.model_copy(update={"min_object_fraction": 0.5}), paths)
