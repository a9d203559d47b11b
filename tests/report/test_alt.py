"""Figures in words: what is drawn stands in them, and notebooks keep them."""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

from manet_lib.paths import project_root
from manet_lib.report.style import alternative_text, described, picture_grid


@pytest.fixture(autouse=True)
def _close() -> Iterator[None]:
    yield
    plt.close("all")


def test_words_that_were_given_come_first():
    figure, axes = plt.subplots()
    axes.set_title("title")
    assert alternative_text(described(figure, "two lungs")) == "two lungs"


def test_a_figure_without_words_says_nothing():
    figure, axes = plt.subplots()
    axes.imshow(np.zeros((2, 2)))
    assert alternative_text(figure) == ""


def test_pictures_are_told_by_their_columns_and_rows():
    image = np.zeros((4, 4), np.uint8)
    figure = picture_grid([[image, image], [image, image]], ["Normal", "TB"], ["image", "truth"])
    assert alternative_text(figure) == "Pictures: columns Normal, TB; rows image, truth"


def test_lines_bars_and_intervals_are_told_by_their_numbers():
    figure, (left, middle, right) = plt.subplots(1, 3)
    left.plot([1, 2, 8], [20.0, 40.0, 64.44], label="plain")
    left.axhline(10)
    left.set(title="ResNet50", xlabel="epoch", ylabel="accuracy (%)")
    middle.errorbar([0.1, 0.9], [0.25, 0.75], yerr=[0.1, 0.1], label="MA")
    right.bar([0, 1], [3, 4.5], label="images")
    assert alternative_text(figure) == (
        "ResNet50, accuracy (%) by epoch: plain from 20 at 1 to 64.4 at 8. "
        "MA from 0.25 at 0.1 to 0.75 at 0.9. images 3, 4.5"
    )


def test_drawn_words_are_told_on_one_line_and_colour_bars_are_not():
    figure, axes = plt.subplots()
    shown = axes.imshow([[1, 2]])
    axes.text(0, 0, "conv\n3×3")
    figure.colorbar(shown).set_label("attention")
    assert alternative_text(figure) == "conv 3×3"


def test_a_long_text_ends_at_a_word():
    figure, axes = plt.subplots()
    for _ in range(300):
        axes.text(0, 0, "word")
    assert alternative_text(figure).endswith("word, word, …")
    assert len(alternative_text(figure)) <= 700


@pytest.mark.timeout(120)
def test_notebooks_keep_the_words_from_the_first_figure_on(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(project_root()))
    draw = "figure, axes = plt.subplots()\naxes.set_title('{}')"
    first = "from manet_lib.report import style\nimport matplotlib.pyplot as plt\n"
    cells = [first + draw.format("one"), draw.format("two"), draw.format("three") + "\nfigure"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, kernel_name="python3").execute()
    found = [
        output.metadata["image/png"]["alt"]
        for cell in notebook.cells
        for output in cell.outputs
        if "image/png" in output.get("data", {})
    ]
    assert found == ["one", "two", "three", "three"]
