from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import label

from manet_lib.data.postprocess import clean_mask
from manet_lib.evaluation.damage import bridged, damaged, is_separated


def _two_lungs(side: int = 96) -> np.ndarray:
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    return ((y / 0.8) ** 2 + ((np.abs(x) - 0.5) / 0.35) ** 2) < 1


def _holes(mask: np.ndarray) -> int:
    return int(label(~mask)[1]) - 1  # but for the background


@pytest.mark.parametrize(("holes", "specks"), [(1, 0), (0, 1), (1, 1)])
def test_one_of_each_is_a_hole_and_an_object_more(holes: int, specks: int) -> None:
    mask = _two_lungs()
    for seed in range(10):
        broken = damaged(mask, np.random.default_rng(seed), holes, specks)
        assert (_holes(broken), label(broken)[1]) == (holes, 2 + specks)
        assert (broken & ~mask).any() == bool(specks)
        assert (mask & ~broken).any() == bool(holes)


def test_post_processing_repairs_it_to_the_pixel() -> None:
    mask = _two_lungs()
    broken = damaged(mask, np.random.default_rng(0), holes=3, specks=1)
    assert np.array_equal(clean_mask(broken, 0.01), mask)


def test_a_seed_gives_the_same_damage_and_the_mask_is_left_alone() -> None:
    mask = _two_lungs()
    before = mask.copy()
    one, again, other = (damaged(mask, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)
    assert np.array_equal(mask, before)


def test_where_there_is_no_room_nothing_is_damaged() -> None:
    rng = np.random.default_rng(0)
    narrow = np.zeros((64, 64), bool)
    narrow[30:32] = True
    assert (narrow & ~damaged(narrow, rng, holes=3, specks=0)).sum() == 0
    assert damaged(np.ones((64, 64), bool), rng, holes=0, specks=3).all()


def test_a_bar_joins_the_lungs_where_they_are_closest() -> None:
    mask = _two_lungs()
    joined = bridged(mask, 3)
    assert (label(mask)[1], label(joined)[1]) == (2, 1)
    gaps = [(~line[np.argmax(line) : len(line) - np.argmax(line[::-1])]).sum() for line in mask if line.any()]
    added = (joined & ~mask).sum(axis=1)
    assert (len(added[added > 0]), added[added > 0].min()) == (3, min(gaps))


def test_a_single_lung_cannot_be_joined() -> None:
    mask = _two_lungs()
    mask[:, 48:] = False
    assert np.array_equal(bridged(mask), mask)


def test_lungs_are_separated_if_no_object_holds_both() -> None:
    lungs = _two_lungs()
    joined = bridged(lungs, 3)
    assert is_separated(lungs, lungs)
    assert not is_separated(joined, lungs)
    cut = joined.copy()
    cut[48 - 30, :48] = False  # two objects, but the bar stays
    assert label(cut)[1] == 2
    assert not is_separated(cut, lungs)
    assert not is_separated(lungs & (np.arange(96) < 48), lungs), "a lung that is gone is not separated"
    dam = joined.copy()
    dam[:, 48] = False
    assert is_separated(dam, lungs)
