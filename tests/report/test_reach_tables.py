"""Recorded training runs in pairs: on the same images in the same trials, against what is counted by hand."""

import numpy as np
import pandas as pd
import pytest

from manet_lib.report import reach
from manet_lib.report.reach import gain_table, maps_table, printed_gains, reach_table, recorded_runs

IMAGES = [f"image{number}" for number in range(40)]


def training(settings: str, model: str, trial: int, right: int, size: int = 64) -> dict[str, object]:
    """A training that classifies the first so many images correctly."""
    hits = pd.Series(np.arange(len(IMAGES)) < right, index=IMAGES)
    return {"settings": settings, "image_size": size, "model": model, "trial": trial, "right": hits}


def test_gains_are_paired_by_trial() -> None:
    rows = [training("epochs8", "resnet50", 1, 20), training("epochs8", "resnet50", 2, 24)]
    rows += [training("epochs8", "resnet50_ma", 1, 26), training("epochs8", "resnet50_ma", 3, 40)]
    row = gain_table(pd.DataFrame(rows)).iloc[0]
    assert (row["trials"], row["images"]) == (1, 40)
    assert (row["plain"], row["ma"], row["gain"]) == (50, 65, 15)
    assert row["low"] < 15 < row["high"]


def test_settings_of_ma_alone_are_compared_with_the_plain_network() -> None:
    rows = [training("epochs8", "resnet34", 1, 20), training("mean_one", "resnet34_ma", 1, 30)]
    rows += [training("epochs24", "resnet34", 1, 28), training("epochs24", "resnet34_ma", 1, 30)]
    table = gain_table(pd.DataFrame(rows)).set_index("settings")
    assert table["gain"].to_dict() == {"mean_one": 25, "epochs24": 5}


def test_sizes_are_not_mixed() -> None:
    rows = [training("epochs8", "vgg16", 1, 20, 64), training("epochs8", "vgg16_ma", 1, 30, 128)]
    assert gain_table(pd.DataFrame(rows)).empty


def test_recorded_runs_are_their_predictions() -> None:
    table = recorded_runs()
    assert len(table) >= 4
    for row in table.itertuples():
        assert 100 * row.right.mean() == pytest.approx(row.accuracy, abs=0.01)
        assert row.right.index.is_unique
    shown = printed_gains(gain_table(table))
    assert len(shown) == len(gain_table(table))
    for settings, part in table.groupby(["settings", "image_size"]):
        names = {tuple(row.right.index) for row in part.itertuples()}
        assert len(names) == 1, f"{settings}: not the same test images"


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
    assert set(recorded["masks"]) >= {"phantoms"}
    assert len(recorded) % (2 * 31) == 0  # four networks, eight sizes, Inception v3 without 64 pixels


def test_pairs_of_runs_are_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = []
    for number, (settings, seed, trial) in enumerate((("epochs8", 0, 1), ("epochs8", 0, 2), ("seed1", 1, 1))):
        for model, accuracy, share in (("resnet50", 60.0, 30.0), ("resnet50_ma", 64.0 + 2 * number, 50.0)):
            rows.append((settings, 224, model, trial, seed, accuracy, share))
    rows.append(("mean_one", 224, "resnet50_ma", 1, 0, 99.0, 99.0))
    rows.append(("epochs8", 64, "resnet50", 1, 0, 50.0, 20.0))
    columns = ["settings", "image_size", "model", "trial", "seed", "accuracy", "in_lungs"]
    monkeypatch.setattr(reach, "recorded_runs", lambda: pd.DataFrame(rows, columns=columns))
    (row,) = reach.gains_over_runs().to_dict("records")
    assert row["MA less plain, each (points)"] == "+4.0, +6.0, +8.0"
    assert row["Mean"] == "+6.0 ± 5.0"  # t of two degrees of freedom, 4.303, times 2 over the root of 3
    assert row["Grad-CAM in the lungs, plain → MA (%)"] == "30 → 50"
