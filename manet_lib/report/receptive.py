"""How mask attention sees: what a place of a lung map is an average of, and the maps at several image sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from manet_lib.data.scaling import resize
from manet_lib.models import create_model
from manet_lib.models.mask_attention import MaskPool
from manet_lib.models.reach import lung_maps
from manet_lib.report.figures import STYLE, bare
from manet_lib.report.tables import model_title


def receptive_field(pools: Sequence[MaskPool]) -> int:
    """Height of the receptive field of a place behind some layers, in pixels of the film, padding included."""
    side, step = 1, 1
    for pool in pools:
        kernel, stride = (
            value if isinstance(value, int) else value[0] for value in (pool.kernel_size, pool.stride)
        )
        side += (kernel - 1) * step
        step *= stride
    return side


def place_weights(pools: Sequence[MaskPool], image_size: int) -> NDArray[np.float64]:
    """What each pixel of a film's mask counts in the middle place of its last lung map (Eq. 1, nested).

    Args:
        pools: of a network with mask attention, in order; divided by nothing, so that the map is linear.
        image_size: height and width of the film in pixels.

    Returns:
        float64 (S, S). They sum to 1 less what falls on padding, where it is counted.
    """
    mask = torch.ones(1, 1, image_size, image_size, dtype=torch.float64, requires_grad=True)
    lung_map = mask
    for pool in pools:
        lung_map = pool(lung_map)
    middle = lung_map.shape[-1] // 2
    lung_map[0, 0, middle, middle].backward()
    assert mask.grad is not None
    return mask.grad[0, 0].numpy()


def weights_figure(pools: Mapping[str, Sequence[MaskPool]], image_size: int) -> Figure:
    """What the columns of a film count in one place of a lung map: as they do, and if all counted alike.

    Args:
        pools: all poolings up to a layer, by the layer's name.
        image_size: in pixels.
    """
    with plt.rc_context(STYLE):
        figure, panels = plt.subplots(
            1, len(pools), figsize=(2.5 * len(pools), 2.6), squeeze=False, layout="constrained"
        )
        columns = np.arange(image_size)
        for axes, (name, some) in zip(panels[0], pools.items(), strict=True):
            weight, field = place_weights(some, image_size).sum(axis=0), receptive_field(some)
            centre = float(np.average(columns, weights=weight))
            alike = np.where(np.abs(columns - centre) <= field / 2, 1 / field, 0)
            axes.plot(columns, 100 * weight, color="#4477aa", label="nested averages")
            axes.plot(
                columns, 100 * alike, color="#ee6677", linestyle="--", label="if all of the field counted alike"
            )
            axes.set(title=f"{name}: field {field} pixels", xlabel="column of the film", ylim=(0, None))
        panels[0][0].set_ylabel("weight of the column (%)")
        lines = panels[0][0].get_legend_handles_labels()
        figure.legend(*lines, loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    return figure


def maps_by_size_figure(mask: NDArray[np.uint8], network: str, sizes: Sequence[int]) -> Figure:
    """The lung maps of a network at several image sizes: a row for each size, from the mask to the last layer.

    Args:
        mask: uint8 0 or 1, (S, S); resized to each size.
        network: a ResNet, without `_ma`.
        sizes: in pixels.
    """
    with torch.device("meta"):  # maps need the layers, not their weights
        model = create_model(f"{network}_ma")
    stages = stage_ends(model)
    with plt.rc_context(STYLE):
        shape = (1.35 * (len(stages) + 1) + 0.8, 1.45 * len(sizes) + 0.2)
        figure, grid = plt.subplots(
            len(sizes), len(stages) + 1, figsize=shape, squeeze=False, layout="constrained"
        )
        for axes_row, size in zip(grid, sizes, strict=True):
            resized = (resize(mask * np.uint8(255), (size, size)) > 127).astype(np.float32)
            maps = [one[0, 0].numpy() for _, one in lung_maps(model, torch.from_numpy(resized)[None, None])]
            for axes, one in zip(axes_row, [resized, *(maps[end - 1] for end in stages.values())], strict=True):
                shown = axes.imshow(one, cmap="viridis", vmin=0, vmax=1, interpolation="nearest")
                bare(axes)
                axes.set_xlabel(f"{len(one)}², max. {one.max():.2f}", fontsize=7, labelpad=1)
            axes_row[0].set_ylabel(f"{size} pixels")
        for axes, title in zip(grid[0], ["mask", *stages], strict=True):
            axes.set_title(title)
        figure.colorbar(
            shown, ax=grid.ravel().tolist(), fraction=0.02, label=f"lung map of {model_title(network)}"
        )
    return figure


def stage_ends(model: torch.nn.Module) -> dict[str, int]:
    """How many poolings lie behind each stage of a ResNet with mask attention, by the stage's name."""
    ends, count = {"stem": 1}, 2  # the stem's convolution and max pooling
    for name in ("layer1", "layer2", "layer3", "layer4"):
        layer: Any = model.get_submodule(name)
        count += sum(len(block.pools(True)) for block in layer)
        ends[name] = count
    return ends


def weights_in_words(pools: Sequence[MaskPool], image_size: int) -> str:
    """How unequally the columns of a film count in the middle place of the last lung map."""
    weight, field = place_weights(pools, image_size).sum(axis=0), receptive_field(pools)
    centre = int(np.argmax(np.cumsum(weight) >= weight.sum() / 2))
    reach = np.abs(np.arange(image_size) - centre)
    places, step = _size_of_map(pools, image_size)
    half = int(np.argmax([weight[reach <= radius].sum() >= weight.sum() / 2 for radius in range(image_size)]))
    return (
        f"The receptive field of the middle place is {field} columns wide, the film {image_size}; half the weight "
        f"lies in {2 * half + 1} columns around column {centre}, {100 * (1 - weight.sum()):.0f}% on padding. All "
        f"strides together make {step}, so place {places // 2} of {places}, counted from 0, looks at column "
        f"{places // 2} × {step} = {places // 2 * step}. The saw teeth are the strides', too: a layer that steps "
        "by two has some columns in more of its windows than others."
    )


def _size_of_map(pools: Sequence[MaskPool], image_size: int) -> tuple[int, int]:
    """Height of the last lung map, and how many pixels of the film a step on it is."""
    size, step = torch.empty(1, 1, image_size, image_size, device="meta"), 1
    for pool in pools:
        size = pool(size)
        step *= pool.stride if isinstance(pool.stride, int) else pool.stride[0]
    return size.shape[-1], step


def maps_in_words(table: pd.DataFrame) -> str:
    """What the last lung map of one network tells at each image size.

    Args:
        table: from :func:`manet_lib.report.reach.reach_table`, of one network.
    """
    parts = [
        f"{row.image_size:.0f} pixels {row.inside:.2f} inside the lungs and {row.outside:.2f} outside"
        for row in table.itertuples()
    ]
    return f"Mean of the last map over the masks: at {'; at '.join(parts)}."
