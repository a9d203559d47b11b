"""Heat maps over their radiographs: Fig. 9 and the method on one image."""

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import NDArray
from scipy.ndimage import binary_closing

from manet_lib.data.scaling import enlarged
from manet_lib.report.style import Image, bare, grid_of_panels, show_image, styled
from manet_lib.report.tables import class_title, model_title

_EXTENT = (0.0, 1.0, 1.0, 0.0)
"""Of pictures that lie over one another, which may have different numbers of pixels."""


def _attention(axes: Axes, image: NDArray[Any], heat: NDArray[np.float32]) -> AxesImage:
    """A heat map over its image: the image shows where the map is low."""
    axes.imshow(image, cmap="gray", interpolation="nearest", extent=_EXTENT)
    heat = enlarged(heat, len(image))
    opacity = 0.15 + 0.75 * np.clip(heat, 0, 1)
    shown = axes.imshow(heat, cmap="inferno", vmin=0, vmax=1, alpha=opacity, extent=_EXTENT)
    bare(axes)
    return shown


def _outline(axes: Axes, region: NDArray[Any], colour: str, style: str = "solid") -> None:
    if region.any() and not region.all():
        middles = (np.arange(len(region)) + 0.5) / len(region)
        axes.contour(middles, middles, region, levels=[0.5], colors=colour, linewidths=0.8, linestyles=style)


def _whole(lesion: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A lesion without its small gaps, such as those in the net of viral pneumonia: for its outline only."""
    reach = max(1, len(lesion) // 28)
    padded = np.pad(lesion, reach)  # closing would leave the border open
    return binary_closing(padded, iterations=reach)[reach:-reach, reach:-reach]


_LUNGS, _LESION = "white", "#44dddd"


@styled
def heat_map_grid(
    images: NDArray[np.float32],
    masks: NDArray[np.uint8],
    lesions: NDArray[np.bool_],
    maps: Sequence[NDArray[np.float32]],
    classes: Sequence[str],
    models: Sequence[str],
) -> Figure:
    """Fig. 9: segmented images of each class, and below them the Grad-CAM maps of each model, over the image.

    Args:
        images: uint8 or float (N, H, H); H may be a multiple of S.
        masks: lung masks, 0 or 1, (N, S, S), outlined in white.
        lesions: true lesions, (N, H, H), outlined with dashes; empty where they are not known.
        maps: for each model, float (N, S, S) in [0, 1].
        classes: class of each image.
        models: name of each model.
    """
    size = (1.45 * len(images) + 0.9, 1.45 * (len(models) + 1) + 0.25)
    figure, grid = grid_of_panels(len(models) + 1, len(images), size)
    for axes, image, label in zip(grid[0], images, classes, strict=True):
        axes.imshow(image, cmap="gray", interpolation="nearest", extent=_EXTENT)
        bare(axes)
        axes.set_title(class_title(label))
    grid[0][0].set_ylabel("Segmented")
    for axes_row, model, heat in zip(grid[1:], models, maps, strict=True):
        for axes, image, one in zip(axes_row, images, heat, strict=True):
            shown = _attention(axes, image, one)
        axes_row[0].set_ylabel(model_title(model))
    for axes_row in grid:
        for axes, mask, lesion in zip(axes_row, masks, lesions, strict=True):
            _outline(axes, mask, _LUNGS)
            _outline(axes, _whole(lesion), _LESION, "dashed")
    bar = figure.colorbar(ScalarMappable(shown.norm, "inferno"), ax=grid.ravel().tolist(), fraction=0.03)
    bar.set_label("Grad-CAM")
    return figure


@styled
def overview_figure(
    image: Image, mask: NDArray[np.uint8], lesion: NDArray[np.bool_], heat: NDArray[np.float32], title: str
) -> Figure:
    """The method on one image: what stage 1 finds, what stage 2 sees, and where it looks.

    Args:
        image: uint8 (H, H); H may be a multiple of S.
        mask: lung mask, 0 or 1, (S, S).
        lesion: true lesion, (H, H); empty where it is not known.
        heat: Grad-CAM map, float (S, S) in [0, 1].
        title: of the last picture.
    """
    figure, panels = plt.subplots(1, 4, figsize=(7.4, 2.1), layout="constrained")
    segmented = image * enlarged(mask, len(image))
    for axes, picture in zip(panels, (image, mask * np.uint8(255), segmented), strict=False):
        show_image(axes, picture)
    _attention(panels[3], segmented, heat)
    _outline(panels[3], mask, _LUNGS)
    _outline(panels[3], _whole(lesion), _LESION, "dashed")
    for axes, words in zip(panels, ("image", "stage 1: lung mask", "segmented image", title), strict=True):
        axes.set_title(words)
    return figure
