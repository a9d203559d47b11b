from __future__ import annotations

from collections import Counter
from typing import Any

import albumentations as A
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import chi2_contingency
from torch.utils.data import DataLoader

from manet_lib.data.augment import EpochOrder, Pairs, classification_augmentation, segmentation_augmentation
from manet_lib.params import Params

SIZE = 64
COUNT = 12
Item = tuple[torch.Tensor, torch.Tensor, int, int]


def _params(**changes: Any) -> Params:
    return Params(profile="x", **changes)


def _disc(x: float, y: float, radius: float, size: int = SIZE) -> NDArray[np.float64]:
    """A disc with a soft edge of one pixel, 0 to 1."""
    rows, columns = np.mgrid[:size, :size]
    return np.clip(radius + 0.5 - np.hypot(columns - x, rows - y), 0, 1)


def _images() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    rng = np.random.default_rng(0)
    images = rng.integers(1, 256, (COUNT, SIZE, SIZE), dtype=np.uint8)
    masks = np.stack([_disc(26 + n, 34, 14 + n / 2) > 0.5 for n in range(COUNT)])
    return images, masks.astype(np.uint8)


def _pairs(
    params: Params,
    augmentation: A.Compose | None,
    *,
    segmented: bool = True,
    key: tuple[int, int] = (0, 1),
    images: NDArray[np.uint8] | None = None,
    masks: NDArray[np.uint8] | None = None,
    rows: list[int] | None = None,
    names: list[str] | None = None,
) -> Pairs:
    default = _images()
    images = default[0] if images is None else images
    masks = default[1] if masks is None else masks
    chosen = np.arange(len(images)) if rows is None else np.array(rows)
    targets = chosen % 5
    return Pairs(
        images,
        masks,
        chosen,
        targets,
        params,
        segmented=segmented,
        augmentation=augmentation,
        key=key,
        names=names,
    )


def _scaled(pairs: Pairs, epoch: int, position: int) -> Item:
    """An item with its image as the networks take it."""
    image, *others = pairs[epoch, position]
    return pairs.scale(image), *others


def _same(one: Item, two: Item) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))


class TestItems:
    def test_form_of_stage_2(self) -> None:
        params = _params()
        pairs = _pairs(params, classification_augmentation(params))
        image, mask, target, row = pairs[3, 7]
        assert image.shape == mask.shape == (1, SIZE, SIZE)
        assert image.dtype == mask.dtype == torch.uint8
        assert (target, row) == (7 % 5, 7)
        assert (image[mask == 0] == 0).all()
        scaled = pairs.scale(image)
        assert scaled.dtype == torch.float32
        assert (scaled.min(), scaled.max()) == (-1, 1)
        assert set(mask.unique().tolist()) == {0, 1}

    def test_form_of_stage_1(self) -> None:
        params = _params()
        image, mask, _, _ = _scaled(_pairs(params, segmentation_augmentation(params), segmented=False), 0, 2)
        assert (image.min(), image.max()) == (0, 1)
        assert image[mask == 0].max() > 0.5  # the whole image, not the lungs alone
        assert set(mask.unique().tolist()) == {0, 1}

    def test_unaugmented_image_is_the_segmented_image(self) -> None:
        images, masks = _images()
        image, mask, _, _ = _scaled(_pairs(_params(normalisation="divide"), None), 5, 3)
        np.testing.assert_allclose(image[0], images[3] * (masks[3] / 255) * 2 - 1, atol=1e-6)
        assert np.array_equal(mask[0], masks[3])

    def test_rows_are_rows_of_the_store(self) -> None:
        some = _pairs(_params(), None, rows=[9, 2])
        whole = _pairs(_params(), None)
        assert len(some) == 2
        assert _same(some[0, 0], whole[0, 9])
        assert _same(some[0, 1], whole[0, 2])


class TestRandomness:
    def test_is_a_function_of_seed_trial_epoch_and_image(self) -> None:
        params = _params()
        one = _pairs(params, classification_augmentation(params))
        wanted = one[4, 6]
        for _ in range(3):
            _ = one[0, 0], one[9, 11]  # history must not matter
            assert _same(one[4, 6], wanted)
        assert _same(_pairs(params, classification_augmentation(params))[4, 6], wanted)

    @pytest.mark.parametrize("what", ["seed", "trial", "epoch", "image"])
    def test_differs_with_each_of_them(self, what: str) -> None:
        params = _params(augment_probability=1.0)
        images, masks = (np.repeat(array[:1], 8, axis=0) for array in _images())

        def draw(number: int) -> bytes:
            key = (number if what == "seed" else 0, number if what == "trial" else 1)
            pairs = _pairs(params, classification_augmentation(params), key=key, images=images, masks=masks)
            item = pairs[number if what == "epoch" else 0, number if what == "image" else 0]
            return item[0].numpy().tobytes()

        assert len({draw(number) for number in range(8)}) == 8

    def test_goes_with_the_images_name_not_its_place(self) -> None:
        params = _params()
        names = [f"image{number}" for number in range(COUNT)]
        whole = _pairs(params, classification_augmentation(params), names=names)
        part = _pairs(params, classification_augmentation(params), rows=[8, 3], names=[names[8], names[3]])
        assert _same(part[2, 0], whole[2, 8])
        assert _same(part[2, 1], whole[2, 3])

    @pytest.mark.parametrize("workers", [1, 2])
    def test_workers_do_not_change_an_epoch(self, workers: int) -> None:
        params = _params()
        pairs = _pairs(params, classification_augmentation(params))

        def epochs(number: int) -> list[list[torch.Tensor]]:
            order = EpochOrder(COUNT, (0, 1), shuffle=True, batch_size=4)
            loader = DataLoader(
                pairs, batch_size=4, sampler=order, num_workers=number, persistent_workers=number > 0
            )
            result = []
            for epoch in range(2):
                order.epoch = epoch
                result += list(loader)
            return result

        alone, shared = epochs(0), epochs(workers)
        assert len(alone) == len(shared) == 6
        for one, two in zip(alone, shared, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
        assert not torch.equal(alone[0][0], alone[3][0])  # the second epoch is another one

    def test_images_of_one_batch_are_drawn_apart(self) -> None:
        params = _params(augment_probability=1.0)
        images, masks = (np.repeat(array[:1], 8, axis=0) for array in _images())
        pairs = _pairs(params, segmentation_augmentation(params), segmented=False, images=images, masks=masks)
        batches = list(
            DataLoader(pairs, batch_size=4, sampler=EpochOrder(8, (0, 1), shuffle=False), num_workers=2)
        )
        assert len({image.numpy().tobytes() for batch in batches for image in batch[0]}) == 8


def _dots(size: int = 128) -> NDArray[np.uint8]:
    """A strong and a weak dot, 40 pixels apart, about the centre."""
    middle = (size - 1) / 2
    image = _disc(middle - 20, middle, 5, size) * 240 + _disc(middle + 20, middle, 5, size) * 120
    return np.round(image).astype(np.uint8)


def _measured(image: NDArray[np.uint8]) -> tuple[float, float, float, float]:
    """Shift right and down in pixels, scale, and angle in degrees, from where the two dots came to lie."""
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    strong = image > 160
    # A disc dimmed by interpolation at its edge still has its centre where it was.
    near = np.hypot(columns - columns[strong].mean(), rows - rows[strong].mean()) < 12
    points = []
    for part in (near, ~near):
        weight = image * part
        points.append(((columns * weight).sum() / weight.sum(), (rows * weight).sum() / weight.sum()))
    (x1, y1), (x2, y2) = points
    middle = (image.shape[0] - 1) / 2
    angle = np.degrees(np.arctan2(y2 - y1, x2 - x1))
    return (x1 + x2) / 2 - middle, (y1 + y2) / 2 - middle, np.hypot(x2 - x1, y2 - y1) / 40, angle


def _both(compose: A.Compose, image: NDArray[np.uint8], mask: NDArray[np.uint8], count: int) -> list[Any]:
    """Grey image and mask in so many epochs, as a data set draws them; the image is not segmented."""
    pairs = _pairs(_params(), compose, segmented=False, images=image[None], masks=mask[None])
    items = [pairs[epoch, 0] for epoch in range(count)]
    return [(drawn[0].numpy(), mask[0].numpy()) for drawn, mask, _, _ in items]


def _draws(compose: A.Compose, image: NDArray[np.uint8], count: int) -> list[NDArray[np.uint8]]:
    return [drawn for drawn, _ in _both(compose, image, np.zeros_like(image), count)]


@pytest.mark.parametrize(("stage", "rotation"), [(1, 10.0), (2, 30.0)])
@pytest.mark.parametrize("joint", [True, False])
def test_ranges_of_the_paper(stage: int, rotation: float, joint: bool) -> None:
    params = _params(augment_probability=1.0, brightness=0.0, contrast=0.0, joint_affine=joint)
    compose = segmentation_augmentation(params) if stage == 1 else classification_augmentation(params)
    measured = np.array([_measured(image) for image in _draws(compose, _dots(), 300)])
    centre = [0, 0, 1, 0]
    limits = np.array([0.0625 * 128, 0.0625 * 128, 0.2, rotation])
    slack = np.array([0.6, 0.6, 0.02, 1.0])
    if not joint:
        slack[:2] += 2.5  # scaled and turned after the shift, about the centre of the image
    offset = measured - centre
    assert (np.abs(offset) <= limits + slack).all()
    # Albumentations shifts by whole pixels and drops the fraction.
    reached = limits - [1, 1, 0, 0]
    assert (np.abs(offset).max(axis=0) >= 0.95 * reached).all()
    assert (np.abs(offset.mean(axis=0)) < 0.15 * limits).all()
    if joint:  # uniform, so the spread is the width over the root of twelve
        np.testing.assert_allclose(offset.std(axis=0), 2 * limits / np.sqrt(12), rtol=0.15)


def test_scale_keeps_proportions() -> None:
    params = _params(augment_probability=1.0, shift=0.0, scale=0.4, seg_rotation=0.0)
    ratios = []
    disc = np.round(_disc(63.5, 63.5, 30, 128) * 255).astype(np.uint8)
    for image in _draws(segmentation_augmentation(params), disc, 40):
        inside = image > 127
        ratios.append(inside.any(axis=0).sum() / inside.any(axis=1).sum())
    np.testing.assert_allclose(ratios, 1, atol=0.06)


@pytest.mark.parametrize(("joint", "expected"), [(True, 0.5), (False, 1 - 0.5**3)])
def test_probability(joint: bool, expected: float) -> None:
    compose = segmentation_augmentation(_params(joint_affine=joint))
    small = _dots(64)
    changed = [not np.array_equal(image, small) for image in _draws(compose, small, 400)]
    assert abs(np.mean(changed) - expected) < 4 * np.sqrt(0.25 / 400)


@pytest.mark.parametrize("joint", [True, False])
def test_augmentations_are_drawn_apart(joint: bool) -> None:
    # Each with probability 0.5 (section 2.3): an image that was moved is brightened no more often than another.
    params = _params(joint_affine=joint)
    image = np.repeat(np.array([0, 100, 150], np.uint8), 32)[None].repeat(96, axis=0)
    mask = np.round(_disc(60, 40, 12, 96)).astype(np.uint8)
    counts = np.zeros((2, 2), int)
    for drawn, moved_mask in _both(classification_augmentation(params), image, mask, 400):
        moved = not np.array_equal(moved_mask, mask)
        counts[int(moved), int(drawn[48, 48] != 100)] += 1
    assert chi2_contingency(counts).pvalue > 1e-4
    assert counts.min() > 10


def test_amounts_are_drawn_apart() -> None:
    # Shift to the right, contrast and the rest, each of its own draw.
    params = _params(augment_probability=1.0, joint_affine=False, rotation=0.0, scale=0.0)
    draws = _draws(classification_augmentation(params), _dots(), 200)
    contrast = [float(image.max()) - float(np.median(image)) for image in draws]
    strong = [np.argwhere(image >= image.max() - 20).mean(axis=0) for image in draws]
    for place in np.array(strong).T:
        assert abs(np.corrcoef(place, contrast)[0, 1]) < 0.35


@pytest.mark.parametrize("stage", [1, 2])
def test_probability_zero_changes_nothing(stage: int) -> None:
    params = _params(augment_probability=0.0)
    compose = segmentation_augmentation(params) if stage == 1 else classification_augmentation(params)
    augmented = _pairs(params, compose, segmented=stage == 2)
    plain = _pairs(params, None, segmented=stage == 2)
    assert all(_same(augmented[epoch, n], plain[epoch, n]) for epoch in range(3) for n in range(COUNT))


def test_zero_ranges_change_nothing() -> None:
    params = _params(augment_probability=1.0, shift=0.0, scale=0.0, rotation=0.0, brightness=0.0, contrast=0.0)
    augmented, plain = _pairs(params, classification_augmentation(params)), _pairs(params, None)
    assert all(_same(augmented[0, n], plain[0, n]) for n in range(COUNT))


def test_brightness_and_contrast() -> None:
    params = _params(augment_probability=1.0, shift=0.0, scale=0.0, rotation=0.0)
    levels = np.array([0, 100, 150], np.uint8)
    image = np.repeat(levels, 32)[None].repeat(96, axis=0)
    draws = np.array([draw[0, 16::32] for draw in _draws(classification_augmentation(params), image, 400)], float)
    lifted = draws[:, 0][draws[:, 0] > 0]
    assert len(lifted) > 120
    assert lifted.max() <= 51  # 0.2 of 255
    assert lifted.max() > 45
    slopes = (draws[:, 2] - draws[:, 1]) / 50
    assert 0.79 < slopes.min() < 0.83
    assert 1.17 < slopes.max() < 1.21
    assert abs(slopes.mean() - 1) < 0.03


def test_image_and_mask_move_together() -> None:
    params = _params(augment_probability=1.0)
    masks = np.stack([_disc(28, 36, 10 + n) > 0.5 for n in range(8)]).astype(np.uint8)
    pairs = _pairs(
        params, segmentation_augmentation(params), segmented=False, images=masks * np.uint8(255), masks=masks
    )
    for number in range(8):
        image, mask, _, _ = pairs[1, number]
        bright, inside = image.numpy() > 127, mask.numpy() > 0
        assert (bright & inside).sum() / (bright | inside).sum() > 0.95
        assert not np.array_equal(mask[0], masks[number])


@pytest.mark.parametrize("border", ["constant", "reflect"])
def test_what_comes_in_at_the_border(border: str) -> None:
    params = _params(augment_probability=1.0, border=border)
    image = np.full((SIZE, SIZE), 200, np.uint8)
    draws = _draws(segmentation_augmentation(params), image, 30)
    black = [bool((draw == 0).any()) for draw in draws]
    assert any(black) == (border == "constant")
    assert all(draw[SIZE // 2, SIZE // 2] == 200 for draw in draws)


class TestRemasking:
    def _items(self, **changes: Any) -> list[Item]:
        params = _params(augment_probability=1.0, **changes)
        pairs = _pairs(params, classification_augmentation(params))
        return [_scaled(pairs, 0, number) for number in range(COUNT)]

    @pytest.mark.parametrize("normalisation", ["min_max", "divide"])
    def test_background_is_exactly_minus_one(self, normalisation: str) -> None:
        for image, mask, _, _ in self._items(normalisation=normalisation):
            assert (image[mask == 0] == -1).all()
            assert image[mask == 1].mean() > -0.9

    def test_without_it_brightness_lifts_the_background(self) -> None:
        lifted = [
            float(image[mask == 0].mean())
            for image, mask, _, _ in self._items(normalisation="divide", remask=False)
        ]
        assert max(lifted) > -0.95

    def test_the_masks_are_the_same_either_way(self) -> None:
        for one, two in zip(self._items(), self._items(remask=False), strict=True):
            assert torch.equal(one[1], two[1])

    def test_empty_mask(self) -> None:
        params = _params(augment_probability=1.0)
        images, masks = _images()
        pairs = _pairs(params, classification_augmentation(params), images=images, masks=np.zeros_like(masks))
        image, mask, _, _ = _scaled(pairs, 0, 0)
        assert (image == -1).all()
        assert (mask == 0).all()


def _order(count: int, epoch: int = 0, key: tuple[int, int] = (0, 1), **options: Any) -> list[int]:
    order = EpochOrder(count, key, **options)
    order.epoch = epoch
    items = list(order)
    assert len(items) == len(order)
    assert {number for number, _ in items} <= {epoch}
    return [position for _, position in items]


class TestEpochOrder:
    @pytest.mark.parametrize("world", [1, 2, 3, 4])
    @pytest.mark.parametrize("count", [680, 679, 2, 1])
    def test_evaluation_sees_each_image_once(self, count: int, world: int) -> None:
        seen = [_order(count, shuffle=False, batch_size=64, rank=rank, world=world) for rank in range(world)]
        assert Counter(position for part in seen for position in part) == Counter(range(count))
        assert all(part == sorted(part) for part in seen)

    @pytest.mark.parametrize("world", [1, 2, 4, 8])
    @pytest.mark.parametrize("count", [5433, 128, 130])
    def test_ranks_share_each_global_batch(self, count: int, world: int) -> None:
        alone = _order(count, 5, shuffle=True, batch_size=64)
        parts = [_order(count, 5, shuffle=True, batch_size=64, rank=rank, world=world) for rank in range(world)]
        share = 64 // world
        for batch in range(count // 64):
            together = [position for part in parts for position in part[batch * share : (batch + 1) * share]]
            assert sorted(together) == sorted(alone[batch * 64 : (batch + 1) * 64])
        assert {len(part) for part in parts} == {count // 64 * share}

    @pytest.mark.parametrize("count", [63, 64, 65, 127, 5433])
    def test_last_incomplete_batch_is_dropped(self, count: int) -> None:
        seen = _order(count, shuffle=True, batch_size=64)
        assert len(seen) == count // 64 * 64
        assert len(set(seen)) == len(seen)
        assert set(seen) <= set(range(count))

    def test_shuffled_anew_in_every_epoch_trial_and_seed(self) -> None:
        options = {"shuffle": True, "batch_size": 50}
        orders = [_order(100, epoch, (seed, trial), **options) for epoch, seed, trial in np.ndindex(3, 3, 3)]
        assert len({tuple(order) for order in orders}) == 27
        assert _order(100, 2, (1, 1), **options) == _order(100, 2, (1, 1), **options)

    def test_dropped_images_change_from_epoch_to_epoch(self) -> None:
        dropped = [set(range(70)) - set(_order(70, epoch, shuffle=True, batch_size=64)) for epoch in range(100)]
        assert set.union(*dropped) == set(range(70))


VIEWS = {
    "lungs": lambda image, mask: np.where(mask, image, 0),
    "whole": lambda image, mask: image,
    "background": lambda image, mask: np.where(mask, 0, image),
    "shape": lambda image, mask: np.where(mask, 255, 0),
}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("augmented", [False, True])
def test_each_view_shows_its_part_of_the_image(view: str, augmented: bool) -> None:
    params = _params(view=view, brightness=0.4, augment_probability=1.0)
    augmentation = classification_augmentation(params) if augmented else None
    whole = _pairs(_params(view="whole", brightness=0.4, augment_probability=1.0), augmentation)
    for position in range(COUNT):
        image, mask, _, _ = _pairs(params, augmentation)[3, position]
        unmasked, same, _, _ = whole[3, position]
        assert torch.equal(mask, same)
        shown, lungs = image[0].numpy(), mask[0].numpy() > 0
        if view == "shape" or not augmented:  # brightness is drawn for what is seen
            np.testing.assert_array_equal(shown, VIEWS[view](unmasked[0].numpy(), lungs))
        elif view != "whole":
            assert (shown[lungs if view == "background" else ~lungs] == 0).all()
            assert shown.any()


def test_without_remask_the_view_is_made_before_the_change_of_brightness() -> None:
    params = _params(view="background", brightness=0.0, contrast=0.0, augment_probability=1.0, remask=False)
    image, mask, _, _ = _pairs(params, classification_augmentation(params))[1, 2]
    inside = _disc(28, 34, 10) > 0.5
    assert image[0].numpy()[(mask[0].numpy() > 0) & inside].mean() < 60


@pytest.mark.parametrize("augmented", [False, True])
def test_attention_gets_its_own_mask_or_ones_or_anothers(augmented: bool) -> None:
    def items(kind: str) -> list[Item]:
        params = _params(attention_mask=kind)
        augmentation = classification_augmentation(params) if augmented else None
        pairs = _pairs(params, augmentation, rows=[4, 7, 9])
        return [pairs[1, position] for position in range(3)]

    _, masks = _images()
    own, ones, another = items("own"), items("ones"), items("mismatched")
    for first, second, third, partner in zip(own, ones, another, [7, 9, 4], strict=True):
        assert torch.equal(first[0], second[0])  # the image is segmented by its own mask
        assert torch.equal(first[0], third[0])
        assert (second[1] == 1).all()
        np.testing.assert_array_equal(third[1][0], masks[partner])


def test_stage_1_sees_the_whole_image_whatever_the_view() -> None:
    images, masks = _images()
    image, mask, _, _ = _pairs(_params(view="shape", attention_mask="ones"), None, segmented=False)[0, 5]
    np.testing.assert_array_equal(image[0], images[5])
    np.testing.assert_array_equal(mask[0], masks[5])
