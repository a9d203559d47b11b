from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from manet_lib.paths import RunPaths
from manet_lib.report import (
    attention,
    classification,
    heat_maps,
    masks,
    probabilities,
    reach,
    results,
    studies,
    style,
)
from manet_lib.report.tables import published

IMAGE = np.add.outer(np.arange(32) * 4, np.arange(32) * 3).astype(np.uint8)


@pytest.fixture(autouse=True)
def _close() -> Iterator[None]:
    yield
    plt.close("all")


def _logs() -> dict[tuple[str, int], pd.DataFrame]:
    models = ("resnet34", "resnet34_ma", "vgg16")
    return {
        (model, trial): pd.DataFrame({"epoch": [1, 2, 3], "val_accuracy": [0.2, 0.5, 0.6 + number / 10]})
        for number, model in enumerate(models)
        for trial in (1, 2)
    }


def _confusion() -> pd.DataFrame:
    return published("table5_confusion_resnet50_ma").set_index("actual").astype(int)


def _heat() -> Figure:
    images = np.stack([IMAGE / 255.0] * 3).astype(np.float32)
    maps = [np.random.default_rng(n).random((3, 32, 32)).astype(np.float32) for n in range(2)]
    classes = ["normal", "covid19", "vp"]
    masks = np.stack([IMAGE > 60] * 3).astype(np.uint8)
    lesions = np.stack([IMAGE > 250, IMAGE > 150, IMAGE > 170])
    return heat_maps.heat_map_grid(images, masks, lesions, maps, classes, ["resnet50", "resnet50_ma"])


def _reach() -> pd.DataFrame:
    rows = [
        (name, size, size / 1000, size / 2000, padding)
        for name in ("resnet50", "vgg16")
        for size in (64, 128, 512)
        for padding in ("counted", "left out")
    ]
    return pd.DataFrame(rows, columns=["network", "image_size", "inside", "outside", "padding"])


def _predictions() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 40)
    return np.eye(3, dtype=bool)[labels], rng.random((2, 40, 3)) + np.eye(3)[labels] / 2


def _reliability() -> pd.DataFrame:
    rows = [(0.4, 0.5, 0.3, 0.7, 0.5), (0.9, 0.8, 0.7, 0.9, 0.5)]
    return pd.DataFrame(rows, columns=["confidence", "accuracy", "low", "high", "share"])


def _by_mask() -> pd.DataFrame:
    rows = [("resnet50", "its own", 80, 75, 84), ("resnet50", "whole image", 30, 25, 36)]
    return pd.DataFrame(rows, columns=["model", "mask", "accuracy", "low", "high"])


def _sanity() -> pd.DataFrame:
    rows = [(model, stage, 0.9 - stage / 5) for model in ("resnet50", "resnet50_ma") for stage in range(4)]
    return pd.DataFrame(rows, columns=["model", "stages", "similarity"])


MAKERS: dict[str, Callable[[], Figure]] = {
    "pictures": lambda: style.picture_grid([[IMAGE, IMAGE > 60]] * 2, ["image", "mask"], ["one", "two"]),
    "heat": _heat,
    "curves": lambda: results.accuracy_curves(_logs()),
    "roc": lambda: probabilities.roc_figure(
        _predictions()[0], {"resnet50": _predictions()[1]}, ["normal", "tb", "vp"]
    ),
    "reliability": lambda: probabilities.reliability_figure({"vgg16": _reliability(), "vgg16_ma": _reliability()}),
    "study": lambda: studies.study_figure("confounders"),
    "sanity": lambda: attention.sanity_figure(_sanity()),
    "by mask": lambda: masks.accuracy_by_mask_figure(_by_mask()),
    "overview": lambda: heat_maps.overview_figure(
        IMAGE,
        (IMAGE > 60).astype(np.uint8),
        IMAGE > 150,
        np.clip(IMAGE / 200, 0, 1).astype(np.float32),
        "attention",
    ),
    "reach": lambda: reach.reach_figure(_reach()),
    "confusion": lambda: classification.confusion_figure(_confusion()),
}


@pytest.mark.parametrize("name", MAKERS)
def test_same_figure_gives_the_same_bytes(name: str, paths: RunPaths) -> None:
    contents = []
    for _ in range(2):
        style.save_figure(MAKERS[name](), paths, name, 60)
        contents.append([(paths.figures / f"{name}.{ending}").read_bytes() for ending in ("png", "pdf", "svg")])
    assert contents[0] == contents[1]
    assert contents[0][1].startswith(b"%PDF")
    assert b"<svg" in contents[0][2]
    pixels = np.asarray(Image.open(paths.figures / f"{name}.png").convert("L"))
    assert min(pixels.shape) > 50
    assert pixels.std() > 10  # not empty
    assert sorted(path.name for path in paths.figures.iterdir()) == [
        f"{name}.{ending}" for ending in ("pdf", "png", "svg")
    ]


def test_resolution_is_the_parameters(paths: RunPaths) -> None:
    sizes = []
    for dpi in (50, 100):
        style.save_figure(MAKERS["confusion"](), paths, "one", dpi)
        sizes.append(Image.open(paths.figures / "one.png").size[0])
    assert sizes[1] / sizes[0] == pytest.approx(2, rel=0.03)


def test_a_dim_image_stays_dim_and_masks_have_their_whole_range() -> None:
    image, mask = MAKERS["pictures"]().axes[:2]
    assert np.array_equal(image.images[0].get_array(), IMAGE)
    assert image.images[0].get_clim() == (0, 255)
    assert mask.images[0].get_clim() == (0, 1)
    full = style.picture_grid([[np.ones((4, 4), np.uint8), np.ones((4, 4), bool)]], ["mask", "mask"])
    assert [axes.images[0].get_clim() for axes in full.axes] == [(0, 1), (0, 1)], "lung everywhere is white"


def test_curves_are_the_mean_of_the_logs_and_their_range() -> None:
    logs = _logs()
    logs["resnet34_ma", 2] = logs["resnet34_ma", 2].assign(val_accuracy=[0.4, 0.5, 0.5])
    figure = results.accuracy_curves(logs)
    assert [axes.get_title() for axes in figure.axes] == ["ResNet34", "VGG16"]
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    assert set(lines) == {"plain", "MA"}
    np.testing.assert_allclose(lines["MA"].get_xydata(), [[1, 30], [2, 50], [3, 60]])
    band = figure.axes[0].collections[1].get_paths()[0].vertices
    assert {tuple(point) for point in band.round(6)} >= {(1, 20), (1, 40), (3, 50), (3, 70)}
    assert figure.axes[0].get_ylim() == (0, 100)


def test_one_trial_has_no_band() -> None:
    figure = results.accuracy_curves({pair: log for pair, log in _logs().items() if pair[1] == 1})
    assert not figure.axes[0].collections


def test_curves_of_nothing(refused: Any) -> None:
    with refused("figure 10"):
        results.accuracy_curves({})


def test_roc_curves_go_through_the_shares_that_a_threshold_gives() -> None:
    actual, scores = _predictions()
    figure = probabilities.roc_figure(actual, {"resnet50": scores}, ["normal", "tb", "vp"])
    assert [axes.get_title() for axes in figure.axes] == ["Normal", "TB", "VP"]
    points = {tuple(point) for point in figure.axes[1].lines[1].get_xydata().round(6)}
    taken = scores[0, :, 1] >= np.median(scores[0, :, 1])
    assert (round(taken[~actual[:, 1]].mean(), 6), round(taken[actual[:, 1]].mean(), 6)) in points
    assert len(figure.axes[0].lines) == 1 + len(scores)


def test_sanity_begins_alike_and_ends_beside_unrelated_maps() -> None:
    (axes,) = MAKERS["sanity"]().axes
    np.testing.assert_allclose(axes.lines[0].get_xydata(), [[0, 1], [1, 0.7], [2, 0.5], [3, 0.3]])
    assert set(axes.lines[1].get_ydata()) == {0.9}


def test_accuracy_by_mask_is_drawn_with_its_interval() -> None:
    figure = MAKERS["by mask"]()
    (axes,) = figure.axes
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["its own", "whole image"]
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [80, 30])
    assert axes.containers[0][2][0].get_segments()[0][:, 1].tolist() == [75, 84]


def test_confusion_matrix_shows_its_counts() -> None:
    confusion = _confusion()
    figure = classification.confusion_figure(confusion)
    axes = figure.axes[0]
    shown = {(int(text.get_position()[1]), int(text.get_position()[0])): text.get_text() for text in axes.texts}
    assert shown == {place: str(count) for place, count in np.ndenumerate(confusion.to_numpy())}
    np.testing.assert_allclose(axes.images[0].get_array().sum(axis=1), 1)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "actual")
    assert [label.get_text() for label in axes.get_yticklabels()] == ["Normal", "COVID-19", "TB", "BP", "VP"]


def test_confusion_matrix_of_a_class_without_images() -> None:
    confusion = pd.DataFrame([[2, 1], [0, 0]], index=["a", "b"], columns=["a", "b"])
    shares = classification.confusion_figure(confusion).axes[0].images[0].get_array()
    np.testing.assert_allclose(shares, [[2 / 3, 1 / 3], [0, 0]])


def test_heat_maps_lie_over_their_images_with_the_regions_outlined() -> None:
    figure = _heat()
    panel = figure.axes[4]  # second column, first network
    image, heat = panel.images
    assert image.get_cmap().name == "gray"
    assert heat.get_cmap().name == "inferno"
    low = heat.get_array() < 0.1
    assert heat.get_alpha()[low].max() < 0.25 < heat.get_alpha()[~low].max()
    assert len(panel.collections) == 2  # lungs and lesion
    assert len(figure.axes[3].collections) == 1  # a normal image has no lesion
