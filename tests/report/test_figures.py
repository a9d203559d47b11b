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
from manet_lib.report import figures
from manet_lib.report.tables import published

FILM = np.add.outer(np.arange(32) * 4, np.arange(32) * 3).astype(np.uint8)


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
    films = np.stack([FILM / 255.0] * 3).astype(np.float32)
    maps = [np.random.default_rng(n).random((3, 32, 32)).astype(np.float32) for n in range(2)]
    classes = ["normal", "covid19", "vp"]
    masks = np.stack([FILM > 60] * 3).astype(np.uint8)
    return figures.heat_map_grid(films, masks, maps, classes, ["resnet50", "resnet50_ma"])


MAKERS: dict[str, Callable[[], Figure]] = {
    "pictures": lambda: figures.picture_grid([[FILM, FILM > 60]] * 2, ["film", "mask"], ["one", "two"]),
    "heat": _heat,
    "curves": lambda: figures.accuracy_curves(_logs(), 1),
    "confusion": lambda: figures.confusion_figure(_confusion()),
    "pooling": lambda: figures.pooling_figure(
        [np.random.default_rng(0).random((size, size)).astype(np.float32) for size in (32, 16, 8)], list("abc")
    ),
}


@pytest.mark.parametrize("name", MAKERS)
def test_same_figure_gives_the_same_bytes(name: str, paths: RunPaths) -> None:
    contents = []
    for _ in range(2):
        figures.save_figure(MAKERS[name](), paths, name, 60)
        contents.append([(paths.figures / f"{name}.{ending}").read_bytes() for ending in ("png", "pdf")])
    assert contents[0] == contents[1]
    assert contents[0][1].startswith(b"%PDF")
    pixels = np.asarray(Image.open(paths.figures / f"{name}.png").convert("L"))
    assert min(pixels.shape) > 50
    assert pixels.std() > 10  # not empty
    assert sorted(path.name for path in paths.figures.iterdir()) == [f"{name}.pdf", f"{name}.png"]


def test_resolution_is_the_parameters(paths: RunPaths) -> None:
    sizes = []
    for dpi in (50, 100):
        figures.save_figure(MAKERS["confusion"](), paths, "one", dpi)
        sizes.append(Image.open(paths.figures / "one.png").size[0])
    assert sizes[1] / sizes[0] == pytest.approx(2, rel=0.03)


def _texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(plt.Text) if text.get_text()]


def test_pictures_are_shown_as_they_are() -> None:
    figure = MAKERS["pictures"]()
    axes = figure.axes
    assert len(axes) == 4
    assert np.array_equal(axes[0].images[0].get_array(), FILM)
    assert axes[0].images[0].get_clim() == (0, 255)  # a dim film stays dim
    assert axes[1].images[0].get_clim() == (0, 1)
    assert [axes[0].get_title(), axes[1].get_title(), axes[2].get_ylabel()] == ["film", "mask", "two"]


def test_curves_are_the_logs() -> None:
    figure = figures.accuracy_curves(_logs(), 1)
    assert [axes.get_title() for axes in figure.axes] == ["ResNet34", "VGG16"]
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    assert set(lines) == {"plain", "MA"}
    np.testing.assert_allclose(lines["MA"].get_xydata(), [[1, 20], [2, 50], [3, 70]])
    assert figure.axes[0].get_ylim() == (0, 100)


def test_curves_of_a_trial_that_was_not_trained(refused: Any) -> None:
    with refused("trial", "3"):
        figures.accuracy_curves(_logs(), 3)
    with refused("trial"):
        figures.accuracy_curves({}, 1)


def test_confusion_matrix_shows_its_counts() -> None:
    confusion = _confusion()
    figure = figures.confusion_figure(confusion)
    axes = figure.axes[0]
    shown = {(int(text.get_position()[1]), int(text.get_position()[0])): text.get_text() for text in axes.texts}
    assert shown == {place: str(count) for place, count in np.ndenumerate(confusion.to_numpy())}
    np.testing.assert_allclose(axes.images[0].get_array().sum(axis=1), 1)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "actual")
    assert [label.get_text() for label in axes.get_yticklabels()] == ["Normal", "COVID-19", "TB", "BP", "VP"]


def test_confusion_matrix_of_a_class_without_films() -> None:
    confusion = pd.DataFrame([[2, 1], [0, 0]], index=["a", "b"], columns=["a", "b"])
    shares = figures.confusion_figure(confusion).axes[0].images[0].get_array()
    np.testing.assert_allclose(shares, [[2 / 3, 1 / 3], [0, 0]])


def test_heat_maps_stand_below_their_films() -> None:
    texts = _texts(_heat())
    for expected in ("Segmented", "ResNet50", "ResNet50(MA)", "Normal", "COVID-19", "VP"):
        assert expected in texts
