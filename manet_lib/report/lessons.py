"""Pictures that explain: a labelled radiograph, findings, marks of a source, and how far two masks agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from manet_lib.data.phantom import Phantom
from manet_lib.report.figures import STYLE, bare
from manet_lib.report.tables import class_title

_LEFT = [("lung apex", 0.36, 0.19), ("rib", 0.20, 0.36), ("patient's right lung", 0.28, 0.52)]
_LEFT += [("diaphragm", 0.27, 0.72), ("liver", 0.30, 0.88)]
_RIGHT = [("collarbone", 0.76, 0.19), ("windpipe and spine", 0.50, 0.26), ("hilum: vessels enter", 0.60, 0.49)]
_RIGHT += [("heart", 0.60, 0.64), ("patient's left lung", 0.78, 0.70), ("gas in the stomach", 0.69, 0.85)]


def radiograph_figure(phantom: Phantom) -> Figure:
    """A phantom with the names of what a frontal chest film shows; its true lungs are outlined.

    Places are those of the phantom's average anatomy, so a name may be off by a few hundredths of the side.
    """
    side = len(phantom.image)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(6.2, 3.4), layout="constrained")
        axes.imshow(phantom.image, cmap="gray", vmin=0, vmax=255, extent=(0, 1, 1, 0))
        axes.contour(
            np.linspace(0, 1, side), np.linspace(0, 1, side), phantom.lungs, [0.5], colors="#66ccee", linewidths=1
        )
        for words, edge, align in ((_LEFT, -0.06, "right"), (_RIGHT, 1.06, "left")):
            for number, (word, x, y) in enumerate(words):
                axes.annotate(
                    word,
                    (x, y),
                    (edge, 0.1 + 0.8 * number / (len(words) - 1)),
                    ha=align,
                    va="center",
                    arrowprops={"arrowstyle": "-|>", "color": "#ee7733", "shrinkB": 0},
                    annotation_clip=False,
                )
        axes.set(xlim=(-0.42, 1.46), ylim=(1, 0))
        bare(axes)
    return figure


def findings_figure(phantoms: Mapping[str, Phantom]) -> Figure:
    """A phantom of each class, and below it the same film with its true lesions outlined.

    Args:
        phantoms: by class.
    """
    with plt.rc_context(STYLE):
        figure, grid = plt.subplots(
            2, len(phantoms), figsize=(1.35 * len(phantoms), 3.0), squeeze=False, layout="constrained"
        )
        for (label, phantom), (above, below) in zip(phantoms.items(), grid.T, strict=True):
            for axes in (above, below):
                axes.imshow(phantom.image, cmap="gray", vmin=0, vmax=255)
                bare(axes)
            above.set_title(class_title(label))
            below.contour(phantom.lungs, [0.5], colors="#66ccee", linewidths=0.6)
            if phantom.lesions.any():
                below.contour(phantom.lesions, [0.5], colors="#ee7733", linewidths=0.8)
    return figure


def marks_figure(without: Phantom, marked: Mapping[str, Phantom]) -> Figure:
    """One film without and with the marks of some sources, and what these change in grey value.

    Args:
        without: drawn with ``confounder_strength=0``.
        marked: the same film with marks, by source.
    """
    with plt.rc_context(STYLE):
        figure, grid = plt.subplots(
            2, 1 + len(marked), figsize=(1.45 * (1 + len(marked)) + 0.9, 3.2), layout="constrained"
        )
        norm = TwoSlopeNorm(0, -160, 160)
        for axes in grid.flat:
            bare(axes)
        pictures = {"no marks": without} | {f"marks of {name}": one for name, one in marked.items()}
        for (title, phantom), (above, below) in zip(pictures.items(), grid.T, strict=True):
            above.imshow(phantom.image, cmap="gray", vmin=0, vmax=255)
            above.set_title(title)
            shown = below.imshow(phantom.image.astype(float) - without.image, cmap="RdBu_r", norm=norm)
            below.contour(without.lungs, [0.5], colors="#555555", linewidths=0.6)
        grid[0][0].set_ylabel("film")
        grid[1][0].set_ylabel("difference")
        figure.colorbar(shown, ax=grid[1].tolist(), fraction=0.03, label="grey values")
    return figure


def agreement_figure(pictures: Sequence[tuple[str, NDArray[np.bool_], NDArray[np.bool_]]]) -> Figure:
    """Pairs of small masks on their pixels: what both have, what only one has, what neither has.

    Args:
        pictures: title, predicted and drawn mask, bool (H, W), of each panel.
    """
    colours = {(1, 1): "#4477aa", (1, 0): "#ee6677", (0, 1): "#ccbb44", (0, 0): "#f4f4f4"}
    words = {(1, 1): "both", (1, 0): "predicted", (0, 1): "drawn", (0, 0): ""}
    with plt.rc_context(STYLE):
        figure, panels = plt.subplots(
            1, len(pictures), figsize=(2.3 * len(pictures), 2.5), squeeze=False, layout="constrained"
        )
        for axes, (title, predicted, drawn) in zip(panels[0], pictures, strict=True):
            for (row, column), one in np.ndenumerate(predicted):
                key = (int(one), int(drawn[row, column]))
                axes.add_patch(plt.Rectangle((column, row), 1, 1, fc=colours[key], ec="white"))
                axes.text(column + 0.5, row + 0.5, words[key], ha="center", va="center", fontsize=6)
            axes.set(xlim=(0, predicted.shape[1]), ylim=(predicted.shape[0], 0), aspect="equal", title=title)
            bare(axes)
    return figure
