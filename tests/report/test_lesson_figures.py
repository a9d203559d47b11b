"""The pictures of notebooks 01 and 02 that explain."""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np
import pytest

from manet_lib.data.phantom import SOURCES, draw_phantom
from manet_lib.report.data import markers_figure, radiograph_figure


@pytest.fixture(autouse=True)
def _close() -> Iterator[None]:
    yield
    plt.close("all")


@pytest.mark.parametrize("patient", range(4))
def test_names_point_at_what_they_name(patient: int) -> None:
    phantom = draw_phantom("normal", patient, size=128, confounder_strength=0)
    figure = radiograph_figure(phantom)
    axes = figure.axes[0]
    at = {note.get_text(): note.xy for note in axes.texts}
    in_lung = {word: bool(phantom.lungs[int(y * 128), int(x * 128)]) for word, (x, y) in at.items()}
    assert in_lung["patient's right lung"]
    assert in_lung["patient's left lung"]
    assert not in_lung["heart"]
    assert not in_lung["liver"]
    assert not in_lung["windpipe and spine"]
    assert at["patient's right lung"][0] < 0.5 < at["patient's left lung"][0], "as if the patient faced the reader"
    figure.canvas.draw()
    boxes = [note.get_window_extent() for note in axes.texts]
    assert all(figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 for box in boxes)


def test_the_difference_is_that_of_the_markers_and_lies_outside_the_lungs() -> None:
    plain = draw_phantom("tb", 7, size=64, confounder_strength=0)
    marked = {name: draw_phantom("tb", 7, size=64, confounder_strength=1, source=name) for name in SOURCES}
    figure = markers_figure(plain, marked)
    below = list(figure.axes[4:8])
    changes = [np.asarray(axes.images[0].get_array()) for axes in below]
    assert not changes[0].any()
    for change, phantom in zip(changes[1:], marked.values(), strict=True):
        assert np.array_equal(change, phantom.image.astype(int) - plain.image)
        assert np.abs(change[~plain.lungs]).max() > 30
        assert np.abs(change[plain.lungs]).max() < 10
