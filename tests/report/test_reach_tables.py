"""Recorded trainings in pairs: on the same films in the same trials, against what is counted by hand."""

import numpy as np
import pandas as pd
import pytest

from manet_lib.report import reach
from manet_lib.report.reach import gain_table, in_words, maps_table, printed_gains, reach_table, recorded_trainings

FILMS = [f"film{number}" for number in range(40)]


def training(settings: str, model: str, trial: int, right: int, size: int = 64) -> dict[str, object]:
    """A training that classifies the first so many films rightly."""
    hits = pd.Series(np.arange(len(FILMS)) < right, index=FILMS)
    return {"settings": settings, "image_size": size, "model": model, "trial": trial, "right": hits}


def test_gains_are_paired_by_trial() -> None:
    rows = [training("epochs8", "resnet50", 1, 20), training("epochs8", "resnet50", 2, 24)]
    rows += [training("epochs8", "resnet50_ma", 1, 26), training("epochs8", "resnet50_ma", 3, 40)]
    row = gain_table(pd.DataFrame(rows)).iloc[0]
    assert (row["trials"], row["films"]) == (1, 40)
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


def test_words_say_no_more_than_the_interval() -> None:
    rows = [
        ("resnet50", 64, -9.0, -14.0, -4.0),
        ("resnet50", 128, 1.0, -3.0, 5.0),
        ("resnet50", 224, 12.0, 6.0, 18.0),
    ]
    table = pd.DataFrame(rows, columns=["network", "image_size", "gain", "low", "high"]).assign(trials=2)
    loses, unclear, gains = in_words(table)
    assert "loses 9.0 points" in loses
    assert "is not told apart" in unclear
    assert "gains 12.0 points" in gains
    assert "2 trials" in gains


def test_recorded_trainings_are_their_predictions() -> None:
    table = recorded_trainings()
    assert len(table) >= 4
    for row in table.itertuples():
        assert 100 * row.right.mean() == pytest.approx(row.accuracy, abs=0.01)
        assert row.right.index.is_unique
    shown = printed_gains(gain_table(table))
    assert len(shown) == len(gain_table(table))
    for settings, part in table.groupby(["settings", "image_size"]):
        names = {tuple(row.right.index) for row in part.itertuples()}
        assert len(names) == 1, f"{settings}: not the same test films"


def test_the_map_does_not_depend_on_the_size_of_the_masks_file() -> None:
    mask = np.zeros((2, 128, 128), np.uint8)
    mask[:, 30:100, 20:55] = mask[:, 30:100, 75:110] = 1
    small, large = (
        reach_table(masks, ["resnet50"], [64, 128])
        for masks in (mask[:, ::2, ::2], np.kron(mask, np.ones((1, 2, 2), np.uint8)))
    )
    pd.testing.assert_frame_equal(small, large, atol=0.02)


def test_inception_is_left_out_where_films_are_too_small() -> None:
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


def test_pairs_of_trainings_are_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = []
    for number, (settings, seed, trial) in enumerate((("epochs8", 0, 1), ("epochs8", 0, 2), ("seed1", 1, 1))):
        for model, accuracy, share in (("resnet50", 60.0, 30.0), ("resnet50_ma", 64.0 + 2 * number, 50.0)):
            rows.append((settings, 224, model, trial, seed, accuracy, share))
    rows.append(("mean_one", 224, "resnet50_ma", 1, 0, 99.0, 99.0))
    rows.append(("epochs8", 64, "resnet50", 1, 0, 50.0, 20.0))
    columns = ["settings", "image_size", "model", "trial", "seed", "accuracy", "in_lungs"]
    monkeypatch.setattr(reach, "recorded_trainings", lambda: pd.DataFrame(rows, columns=columns))
    (row,) = reach.gains_over_trainings().to_dict("records")
    assert row["MA less plain, each (points)"] == "+4.0, +6.0, +8.0"
    assert row["Mean"] == "+6.0 ± 5.0"  # t of two degrees of freedom, 4.303, times 2 over the root of 3
    assert row["Grad-CAM in the lungs, plain → MA (%)"] == "30 → 50"


def test_the_fading_of_a_map_is_said_in_words() -> None:
    depths = pd.DataFrame({"side": [112, 28, 7], "inside": [0.95, 0.6, 0.3], "outside": [0.05, 0.1, 0.2]})
    words = reach.depths_in_words(depths)
    assert "112 places a side become 7" in words
    assert words.endswith("their distance from 0.90 to 0.10.")


def test_the_size_from_which_maps_tell_is_said_in_words() -> None:
    rows = [("resnet50", 64, 0.2, 0.15), ("resnet50", 224, 0.4, 0.2), ("vgg16", 64, 0.1, 0.1)]
    words = reach.reach_in_words(pd.DataFrame(rows, columns=["network", "image_size", "inside", "outside"]))
    assert "ResNet50 from 224 pixels on" in words
    assert "at none of these sizes" in words


def test_the_largest_difference_between_masks_is_said_in_words() -> None:
    rows = [("drawn", "vgg16", 64, 0.5, 0.3), ("real", "vgg16", 64, 0.5, 0.25)]
    rows += [("drawn", "vgg16", 128, 0.5, 0.3), ("real", "vgg16", 128, 0.5, 0.3)]
    table = pd.DataFrame(rows, columns=["masks", "network", "image_size", "inside", "outside"])
    words = reach.masks_alike_in_words(table)
    assert "at most 0.050" in words
    assert "at 64 pixels" in words


def test_what_padding_does_is_said_in_words() -> None:
    counted = pd.DataFrame({"network": ["vgg16", "resnet34"], "image_size": [64, 128]})
    left_out = counted.assign(inside=[0.5, 0.9], outside=[0.4, 0.3])
    counted = counted.assign(inside=[0.3, 0.2], outside=[0.1, 0.1])
    assert reach.padding_in_words(counted, left_out) == (
        "With padding left out the map is higher inside the lungs by up to 0.70 (ResNet34 at 128 pixels); "
        "the distance between inside and outside changes by -0.10 to +0.50."
    )


def test_pairs_of_trainings_in_words() -> None:
    each = pd.DataFrame(
        {
            "network": ["resnet50"] * 4 + ["vgg16"],
            "image_size": [64, 64, 224, 224, 128],
            "gain": [-5.0, 5.0, 10.0, 10.2, 30.0],
            "plain": [20.0, 30.0, 30.0, 30.0, 30.0],
            "ma": [19.0, 40.0, 42.0, 45.0, 44.0],
        }
    )
    assert reach.over_trainings_in_words(each) == (
        "ResNet50 at 64 pixels: +0.0 points, not told from 0 by 2 pairs. "
        "ResNet50 at 224 pixels: +10.1 points, told from 0 by 2 pairs."  # ± 12.7 · 0.1
    )
    assert reach.attention_moves_in_words(each, 0.25) == (
        "In 4 of 5 pairs more of the Grad-CAM map lies in the lungs with MA, by 15 points at most "
        "(ResNet50 at 224 pixels). The lungs are 25% of the film; "
        "the plain network has more than that in them in 4 pairs."
    )
