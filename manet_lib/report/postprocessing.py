"""Notebook 03: Fig. 2, the two stages on one image."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from manet_lib.data.scaling import enlarged
from manet_lib.report.schematics import arrow, box
from manet_lib.report.style import bare, styled


@styled
def workflow_figure(image: NDArray[np.uint8], raw: NDArray[np.uint8], clean: NDArray[np.uint8]) -> Figure:
    """Fig. 2: the two stages, on one image.

    Args:
        image: uint8 (H, H); H may be a multiple of S.
        raw: mask that stage 1 predicts, 0 or 1, (S, S).
        clean: after post-processing, 0 or 1, (S, S).
    """
    pictures = (
        (image, "image"),
        (raw * np.uint8(255), "raw mask"),
        (clean * np.uint8(255), "lung mask"),
        (image * enlarged(clean, len(image)), "segmented image"),
    )
    steps = ("stage 1:\nResUNet", "post-\nprocessing", "image ×\nmask")
    figure, axes = plt.subplots(figsize=(8.4, 2.1), layout="constrained")
    for place, (picture, words) in enumerate(pictures):
        left = 2.5 * place
        extent = (left, left + 1.4, -0.7, 0.7)
        axes.imshow(picture, cmap="gray", vmin=0, vmax=255, extent=extent, interpolation="antialiased")
        axes.text(left + 0.7, -0.95, words, ha="center", va="center")
    for place, words in enumerate(steps):
        arrow(axes, (2.5 * place + 1.45, 0), (2.5 * place + 2.45, 0))
        axes.text(2.5 * place + 1.95, 0.32, words, ha="center", va="center", fontsize=8)
    box(axes, 10.4, 0, "stage 2:\nCNN with MA", 1.7, 0.9)
    arrow(axes, (8.95, 0), (9.52, 0))
    axes.plot([5.7, 5.7, 10.4], [0.72, 1.05, 1.05], color="#555555", linewidth=1)
    arrow(axes, (10.4, 1.05), (10.4, 0.48))
    axes.text(8.2, 1.2, "the mask, pooled with the features", ha="center", fontsize=8)
    arrow(axes, (11.28, 0), (11.9, 0))
    axes.text(12.0, 0, "class", ha="left", va="center")
    axes.set(xlim=(-0.1, 12.8), ylim=(-1.15, 1.4), aspect="equal")
    bare(axes)
    return figure
