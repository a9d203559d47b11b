"""Notebook 02: section 4.1, Fig. 4, and masks beside each other pixel by pixel."""

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from manet_lib.evaluation.statistics import bootstrap_interval
from manet_lib.models.resunet import create_segmenter
from manet_lib.params import Params
from manet_lib.report.schematics import arrow, box
from manet_lib.report.style import bare, row_of_panels, styled
from manet_lib.report.tables import class_title, published


def segmentation_scores(iou: pd.DataFrame, manifest: pd.DataFrame, params: Params) -> pd.DataFrame:
    """Section 4.1: mean test IoU of stage 1 by class, with a 95% bootstrap interval over images."""
    printed = published("segmentation_iou").set_index("class")
    train = manifest[manifest["seg_split"] == "train"]["label"].value_counts()
    rows = []
    for label in [*params.classes, "overall"]:
        values = (iou if label == "overall" else iou[iou["label"] == label])["iou"].to_numpy()
        if not len(values):
            continue
        low, high = bootstrap_interval(values)
        row: dict[str, Any] = {
            "Class": "All images" if label == "overall" else class_title(label),
            "Training pairs": int(train.sum() if label == "overall" else train.get(label, 0)),
            "Test pairs": len(values),
            "Test IoU (%)": f"{100 * values.mean():.2f}",
            "95% interval": f"{100 * low:.2f} to {100 * high:.2f}",
        }
        if params.at_paper_size:
            row["Paper (%)"] = printed["test_iou_pct"].get(label, "")
        rows.append(row)
    return pd.DataFrame(rows)


@styled
def agreement_figure(pictures: Sequence[tuple[str, NDArray[np.bool_], NDArray[np.bool_]]]) -> Figure:
    """Pairs of small masks on their pixels: what both have, what only one has, what neither has.

    Args:
        pictures: title, predicted and annotated mask, bool (H, W), of each panel.
    """
    colours = {(1, 1): "#4477aa", (1, 0): "#ee6677", (0, 1): "#ccbb44", (0, 0): "#f4f4f4"}
    words = {(1, 1): "both", (1, 0): "predicted", (0, 1): "annotated", (0, 0): ""}
    figure, panels = row_of_panels(len(pictures), 2.3, 2.5)
    for axes, (title, predicted, drawn) in zip(panels, pictures, strict=True):
        for (row, column), one in np.ndenumerate(predicted):
            key = (int(one), int(drawn[row, column]))
            axes.add_patch(plt.Rectangle((column, row), 1, 1, fc=colours[key], ec="white"))
            axes.text(column + 0.5, row + 0.5, words[key], ha="center", va="center", fontsize=6)
        axes.set(xlim=(0, predicted.shape[1]), ylim=(predicted.shape[0], 0), aspect="equal", title=title)
        bare(axes)
    return figure


def resunet_shapes(encoder: str, image_size: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Channels and side of what the encoder and the decoder of the ResUNet make, traced on an image.

    Returns:
        Encoder from the image down, and decoder from the bottom up; each a list of (channels, side).
    """
    with torch.device("meta"):
        model: Any = create_segmenter(encoder).eval()
        image = torch.zeros(1, 1, image_size, image_size)
    up: list[tuple[int, int]] = []
    hooks = [
        block.register_forward_hook(lambda _, __, out: up.append((out.shape[1], out.shape[2])))
        for block in model.decoder.blocks
    ]
    with torch.no_grad():
        down = [(part.shape[1], part.shape[2]) for part in model.encoder(image)]
        model(image)
    for hook in hooks:
        hook.remove()
    return down, up


@styled
def resunet_figure(encoder: str = "resnet34", image_size: int = 512) -> Figure:
    """Fig. 4: the ResUNet of stage 1, with the channels and sizes that it really has."""
    down, up = resunet_shapes(encoder, image_size)
    depth = {side: row for row, (_, side) in enumerate(down)}
    figure, axes = plt.subplots(figsize=(8.4, 3.6), layout="constrained")
    last = len(down) - 1
    for column, (channels, side) in enumerate(down):
        box(axes, 2.1 * column, -depth[side], f"{channels}×{side}²", 1.9, size=7)
        if column:
            arrow(axes, (2.1 * column - 1.25, -depth[side] + 0.7), (2.1 * column - 0.45, -depth[side] + 0.34))
    for step, (channels, side) in enumerate(up, start=1):
        x = 2.1 * (last + step)
        box(axes, x, -depth[side], f"{channels}×{side}²", 1.9, size=7)
        arrow(axes, (x - 1.25, -depth[side] - 0.68), (x - 0.45, -depth[side] - 0.34))
        if depth[side] > 0:  # the image itself is not joined
            arrow(axes, (2.1 * depth[side] + 0.92, -depth[side]), (x - 0.94, -depth[side]))
    end = 2.1 * (last + len(up))
    axes.text(0, 0.55, "image", ha="center", fontsize=8)
    for x, word in ((0.7 * last, "encoder"), (2.1 * last + 1.4 * len(up), "decoder")):
        axes.text(x, -0.75 * last, word, ha="center", fontsize=9, fontweight="bold")
    axes.text(end, 0.55, f"then conv 3×3, σ:\nlung mask 1×{up[-1][1]}²", ha="center", fontsize=8)
    words = f"{encoder}: each step down halves the size, each step up doubles it (nearest neighbour); "
    axes.text(2.1 * last, -last - 0.65, words + "skip arrows join features", ha="center", fontsize=8)
    axes.set(xlim=(-1.1, end + 1.4), ylim=(-last - 1, 0.9))
    bare(axes)
    return figure
