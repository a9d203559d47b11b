from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from manet_lib.evaluation.baseline import (
    lung_statistics,
    predicted_correctly,
    thumbnails,
)


def test_statistics_of_the_lungs_alone() -> None:
    image = np.full((10, 10), 250, np.uint8)
    image[0, :4] = [10, 20, 30, 40]
    mask = np.zeros((10, 10), np.uint8)
    mask[0, :4] = 1
    features = lung_statistics(image[None], mask[None])
    np.testing.assert_allclose(features, [[25, np.sqrt(125), 0.04]])


def test_empty_mask_is_defined() -> None:
    features = lung_statistics(np.full((1, 4, 4), 9, np.uint8), np.zeros((1, 4, 4), np.uint8))
    assert features.tolist() == [[0, 0, 0]]


@pytest.mark.parametrize(("contrast", "low", "high"), [(60, 0.95, 1.0), (0, 0.2, 0.8)])
def test_learns_from_training_images_only_what_is_there(contrast: int, low: float, high: float) -> None:
    rng = np.random.default_rng(0)
    labels = np.tile(["dark", "bright"], 60)
    level = 80 + contrast * (labels == "bright")
    images = (level[:, None, None] + rng.normal(0, 10, (120, 8, 8))).astype(np.uint8)
    manifest = pd.DataFrame({"label": labels, "split": np.repeat(["train", "val", "test"], [60, 20, 40])})
    right = predicted_correctly(lung_statistics(images, np.ones_like(images)), manifest, "label")
    assert len(right) == 40
    assert low <= right.mean() <= high


def test_test_labels_are_not_learned_from() -> None:
    # Were test images in the training, swapping their labels would not turn every one of them wrong.
    labels = np.tile(["dark", "bright"], 30)
    images = np.broadcast_to(np.where(labels == "bright", 200, 50)[:, None, None], (60, 4, 4)).astype(np.uint8)
    split = np.repeat(["train", "test"], [20, 40])
    swapped = np.where(split == "test", np.where(labels == "dark", "bright", "dark"), labels)
    manifest = pd.DataFrame({"label": swapped, "split": split})
    assert not predicted_correctly(lung_statistics(images, np.ones_like(images)), manifest, "label").any()


def test_thumbnails_tell_a_bright_corner_and_not_noise() -> None:
    rng = np.random.default_rng(0)
    labels = np.array(["a", "b"] * 60)
    pictures = rng.integers(0, 120, (120, 64, 64), dtype=np.uint8)
    pictures[labels == "b", :16, :16] += 100
    manifest = pd.DataFrame({"label": labels, "split": ["train"] * 80 + ["test"] * 40})
    assert predicted_correctly(thumbnails(pictures), manifest, "label").all()
    noise = rng.integers(0, 256, (120, 64, 64), dtype=np.uint8)
    assert thumbnails(noise).shape == (120, 256)
    assert predicted_correctly(thumbnails(noise), manifest, "label").mean() < 0.8
