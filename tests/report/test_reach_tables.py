"""Lung maps by network and image size."""

import numpy as np
import pandas as pd

from manet_lib.report import reach
from manet_lib.report.reach import maps_table, reach_table


def test_the_map_does_not_depend_on_the_size_of_the_masks_file() -> None:
    mask = np.zeros((2, 128, 128), np.uint8)
    mask[:, 30:100, 20:55] = mask[:, 30:100, 75:110] = 1
    small, large = (
        reach_table(masks, ["resnet50"], [64, 128])
        for masks in (mask[:, ::2, ::2], np.kron(mask, np.ones((1, 2, 2), np.uint8)))
    )
    pd.testing.assert_frame_equal(small, large, atol=0.02)


def test_inception_is_left_out_where_images_are_too_small() -> None:
    mask = np.ones((1, 96, 96), np.uint8)
    assert reach_table(mask, ["inceptionv3"], [64, 96])["image_size"].tolist() == [96]


def test_maps_are_shown_by_size_and_network() -> None:
    rows = [("vgg16", 64, 0.123, 0.05), ("resnet50", 64, 0.5, 0.25), ("resnet50", 128, 0.6, 0.2)]
    table = maps_table(pd.DataFrame(rows, columns=["network", "image_size", "inside", "outside"]))
    assert table.columns.tolist() == ["Image size", "ResNet50", "VGG16"]
    assert table.to_numpy().tolist() == [[64, "0.50 / 0.25", "0.12 / 0.05"], [128, "0.60 / 0.20", "–"]]


def test_recorded_maps_hold_every_network_size_and_padding() -> None:
    recorded = reach.recorded_maps()
    assert set(recorded["masks"]) == {"phantoms", "real radiographs"}
    assert len(recorded) % (2 * 31) == 0  # four networks, eight sizes, Inception v3 without 64 pixels
