"""Scores of masks against brute force over all pairs of pixels, and against shapes whose distance is known."""

import numpy as np
import pytest
import skimage.draw
from skimage.morphology import dilation, disk, erosion

from manet_lib.evaluation.overlap import dice, grown, outline, surface_distance


def blob(seed: int, side: int = 40) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 1, (side // 5, side // 5))
    return np.kron(noise, np.ones((5, 5))) > 0


def by_pairs(first: np.ndarray, second: np.ndarray) -> float:
    """Every outline pixel against every one of the other outline."""

    def edge(mask: np.ndarray) -> np.ndarray:
        padded = np.pad(mask, 1)
        whole = padded[2:, 1:-1] & padded[:-2, 1:-1] & padded[1:-1, 2:] & padded[1:-1, :-2]
        return np.argwhere(mask & ~whole)

    distances = np.linalg.norm(edge(first)[:, None] - edge(second)[None], axis=2)
    return float(np.concatenate([distances.min(axis=1), distances.min(axis=0)]).mean())


@pytest.mark.parametrize("seed", range(6))
def test_surface_distance_is_that_over_all_pairs(seed: int) -> None:
    first, second = blob(seed), blob(seed + 100)
    assert surface_distance(first, second) == pytest.approx(by_pairs(first, second))
    assert surface_distance(second, first) == pytest.approx(by_pairs(first, second))


def test_circles_inside_each_other_are_apart_by_their_radii() -> None:
    masks = np.zeros((2, 201, 201), bool)
    for mask, radius in zip(masks, (60, 70), strict=True):
        mask[skimage.draw.disk((100, 100), radius)] = True
    assert surface_distance(*masks) == pytest.approx(10, abs=0.3)


def test_empty_masks() -> None:
    empty, some = np.zeros((9, 9), bool), np.eye(9, dtype=bool)
    assert surface_distance(empty, empty) == 0
    assert np.isnan(surface_distance(empty, some))
    assert np.isnan(surface_distance(some, empty))
    np.testing.assert_array_equal(dice(np.stack([empty, empty]), np.stack([empty, some])), [1, 0])


def test_dice_is_twice_the_common_area_over_both() -> None:
    first, second = np.stack([blob(1), blob(2)]), np.stack([blob(3), blob(2)])
    expected = [2 * (a & b).sum() / (a.sum() + b.sum()) for a, b in zip(first, second, strict=True)]
    np.testing.assert_allclose(dice(first, second), expected)


@pytest.mark.parametrize("pixels", [1, 3, 6])
def test_grown_and_shrunk_are_scikit_images_dilation_and_erosion_by_a_disk(pixels: int) -> None:
    mask = np.pad(blob(4), 10)
    np.testing.assert_array_equal(grown(mask, pixels), dilation(mask, disk(pixels)))
    np.testing.assert_array_equal(grown(mask, -pixels), erosion(mask, disk(pixels)))


def test_outside_of_the_image_is_outside_of_the_mask() -> None:
    whole = np.ones((11, 11), bool)
    assert outline(whole).sum() == 40
    assert grown(whole, -2).sum() == 49
    assert grown(whole, 5).all()
    assert not grown(~whole, 5).any()
    assert np.array_equal(grown(blob(5), 0), blob(5))
