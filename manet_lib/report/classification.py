"""Notebook 04: Figs. 5 to 7, what a lung map averages, and the confusion matrix."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from manet_lib.data.scaling import resize
from manet_lib.evaluation.metrics import confusion_matrix
from manet_lib.models import create_model
from manet_lib.models.cbam import CBAM
from manet_lib.models.mask_attention import MaskPool
from manet_lib.models.reach import lung_maps
from manet_lib.params import Params
from manet_lib.paths import RunPaths
from manet_lib.report.schematics import SHORTCUT, arrow, box, operations
from manet_lib.report.style import bare, described, grid_of_panels, legend_below, row_of_panels, styled
from manet_lib.report.tables import class_title, model_title, predictions_of


@styled
def attention_places_figure() -> Figure:
    """Fig. 5: a block of each network with mask attention, as it is computed."""
    with torch.device("meta"):  # the layers, without their weights
        vgg, basic, bottleneck = (create_model(f"{name}_ma") for name in ("vgg16", "resnet34", "resnet50"))
    chains = {
        "VGG16: a convolution": operations(vgg, "", 32)[:4],
        "ResNet34: basic block": operations(basic, "layer1.1"),
        "ResNet50: bottleneck": operations(bottleneck, "layer1.1"),
    }
    rows = max(map(len, chains.values()))
    figure, panels = plt.subplots(1, 4, figsize=(8.6, 4.6), width_ratios=(1, 1, 1, 2.1), layout="constrained")
    for axes, (title, words) in zip(panels, chains.items(), strict=False):
        _chain(axes, words, title)
        _frame(axes, rows)
    _mixed_block(panels[3], "Mixed_5b", rows)
    return figure


def _chain(axes: Axes, words: Sequence[str], title: str) -> None:
    """Operations one below the other; the shortcut goes from the input to the addition."""
    axes.text(0, 0, "features", ha="center", va="center", fontsize=8)
    for place, word in enumerate(words, start=1):
        box(axes, 0, -place, word)
        arrow(axes, (0, -place + 0.78 if place > 1 else -0.2), (0, -place + 0.32))
        if word == SHORTCUT:
            axes.plot([0.45, 1.05, 1.05], [0, 0, -place], color="#555555", linewidth=1)
            arrow(axes, (1.05, -place), (0.78, -place))
    axes.set_title(title)


def _frame(axes: Axes, rows: int, left: float = -1.1, right: float = 1.3) -> None:
    axes.set(xlim=(left, right), ylim=(-rows - 0.6, 0.5))
    bare(axes)


def _mixed_block(axes: Axes, name: str, rows: int) -> None:
    """A block of Inception v3: its branches side by side, joined and multiplied once."""
    with torch.device("meta"):
        block: Any = create_model("inceptionv3_ma").get_submodule(name)
    branches: dict[str, list[str]] = {}
    for child, layer in block.named_children():
        kernel = layer.conv.kernel_size
        branch = child if child == "branch_pool" else child.partition("_")[0]
        branches.setdefault(branch, []).append(f"conv {kernel[0]}×{kernel[1]}")
    branches["branch_pool"].insert(0, "avg. pool 3×3")
    joined = max(map(len, branches.values())) + 1.4
    middle = 1.9 * (len(branches) - 1) / 2
    axes.text(middle, 0, "features", ha="center", va="center", fontsize=8)
    for column, words in enumerate(branches.values()):
        x = 1.9 * column
        arrow(axes, (middle, -0.2), (x, -0.68))
        for place, word in enumerate(words, start=1):
            box(axes, x, -place, word, 1.75, size=7)
            if place > 1:
                arrow(axes, (x, -place + 0.68), (x, -place + 0.32))
        axes.plot([x, x], [-len(words) - 0.32, -joined + 1.05], color="#555555", linewidth=1)  # past the others
        arrow(axes, (x, -joined + 1.05), (middle + 0.3 * (column - 1.5), -joined + 0.32))
    box(axes, middle, -joined, "concatenate", 2.4)
    box(axes, middle, -joined - 1, "× lung map", 2.4)
    arrow(axes, (middle, -joined - 0.32), (middle, -joined - 0.68))
    axes.set_title(f"Inception v3: {name}")
    _frame(axes, rows, -1.1, 2 * middle + 1.1)


@styled
def cbam_figure() -> Figure:
    """Fig. 7: where CBAM sits in a block, and what it is."""
    size: Any = CBAM(64).spatial.kernel_size
    places = f"conv {size[0]}×{size[1]}, σ"
    inside = ["average and maximum\nover positions", "shared MLP, sum, σ", "× channels"]
    inside += ["average and maximum\nover channels", places, "× positions"]
    with torch.device("meta"):
        basic, bottleneck = (create_model(f"{name}_cbam") for name in ("resnet34", "resnet50"))
    chains = {
        "basic block with CBAM": operations(basic, "layer1.1"),
        "bottleneck with CBAM": operations(bottleneck, "layer1.1"),
        "CBAM": inside,
    }
    rows = max(map(len, chains.values()))
    figure, panels = plt.subplots(1, 3, figsize=(6.6, 4.8), layout="constrained")
    for axes, (title, words) in zip(panels, chains.items(), strict=True):
        if title == "CBAM":
            axes.text(0, 0, "features", ha="center", va="center", fontsize=8)
            for place, word in enumerate(words, start=1):
                box(axes, 0, -place, word, 2.1, 0.68)
                arrow(axes, (0, -place + 0.66 if place > 1 else -0.2), (0, -place + 0.36))
            axes.set_title(title)
        else:
            _chain(axes, words, title)
        _frame(axes, rows)
    return figure


def small_mask(size: int = 7) -> NDArray[np.float32]:
    """Two lungs on a few places: float32 (size, size), 0 or 1; the one on the left is the larger."""
    mask = np.zeros((size, size), dtype=np.float32)
    mask[1 : size - 1, 1:3] = 1
    mask[2 : size - 1, size - 3 : size - 1] = 1
    return mask


@styled
def pooling_numbers_figure(
    size: int = 7, kernel: int = 3, stride: int = 2, padding: int = 1, place: tuple[int, int] = (1, 1)
) -> Figure:
    """Fig. 6: a small lung mask and what the receptive fields of a convolution make of it, number by number.

    Args:
        size: of :func:`small_mask`.
        kernel: of the convolution.
        stride: of the convolution.
        padding: of the convolution; drawn as a border of zeros.
        place: row and column of the pooled map whose receptive field is drawn.
    """
    mask = np.pad(small_mask(size), padding)
    pool = MaskPool(kernel, stride, 0)
    pooled = pool(torch.from_numpy(mask)[None, None])[0, 0].numpy()
    row, column = place
    figure, panels = plt.subplots(1, 2, figsize=(5.6, 2.9), width_ratios=(1.5, 1), layout="constrained")
    _numbers(panels[0], mask, "{:.0f}")
    _numbers(panels[1], pooled, "{:.2f}")
    border = (padding - 0.5, padding - 0.5)
    panels[0].add_patch(Rectangle(border, size, size, fill=False, ec="#555555", lw=1))
    corner = (column * stride - 0.5, row * stride - 0.5)
    panels[0].add_patch(Rectangle(corner, kernel, kernel, fill=False, ec="#cc3311", lw=2))
    panels[1].add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, ec="#cc3311", lw=2))
    panels[0].set_title("lung mask with its padding, and a window")
    panels[1].set_title(f"P(M; k={kernel}, s={stride}, p={padding}): mean of each window")
    return figure


def _numbers(axes: Axes, values: NDArray[np.float32], form: str) -> None:
    axes.imshow(values, cmap="Blues", vmin=0, vmax=1.6)
    for (row, column), value in np.ndenumerate(values):
        axes.text(column, row, form.format(value), ha="center", va="center", fontsize=8)
    bare(axes)


def receptive_field(pools: Sequence[MaskPool]) -> int:
    """Height of the receptive field of a place behind some layers, in pixels of the image, padding included."""
    side, step = 1, 1
    for pool in pools:
        kernel, stride = (
            value if isinstance(value, int) else value[0] for value in (pool.kernel_size, pool.stride)
        )
        side += (kernel - 1) * step
        step *= stride
    return side


def place_weights(pools: Sequence[MaskPool], image_size: int) -> NDArray[np.float64]:
    """What each pixel of an image's mask counts in the middle place of its last lung map (Eq. 1, nested).

    Args:
        pools: of a network with the mask attention of Eq. 1, in order, so that the map is linear in the mask.
        image_size: height and width of the image in pixels.

    Returns:
        float64 (S, S). They sum to 1 minus what falls on padding, where it is counted.
    """
    mask = torch.ones(1, 1, image_size, image_size, dtype=torch.float64, requires_grad=True)
    lung_map = mask
    for pool in pools:
        lung_map = pool(lung_map)
    middle = lung_map.shape[-1] // 2
    lung_map[0, 0, middle, middle].backward()
    assert mask.grad is not None
    return mask.grad[0, 0].numpy()


@styled
def weights_figure(pools: Mapping[str, Sequence[MaskPool]], image_size: int) -> Figure:
    """What the columns of an image count in one place of a lung map: as they do, and if all counted alike.

    Args:
        pools: all poolings up to a layer, by the layer's name.
        image_size: in pixels.
    """
    figure, panels = row_of_panels(len(pools), 2.5, 2.6)
    columns = np.arange(image_size)
    for axes, (name, some) in zip(panels, pools.items(), strict=True):
        weight, field = place_weights(some, image_size).sum(axis=0), receptive_field(some)
        centre = float(np.average(columns, weights=weight))
        alike = np.where(np.abs(columns - centre) <= field / 2, 1 / field, 0)
        axes.plot(columns, 100 * weight, color="#4477aa", label="nested averages")
        words = "if all pixels of the receptive field counted equally"
        axes.plot(columns, 100 * alike, color="#ee6677", linestyle="--", label=words)
        axes.set(title=f"{name}: receptive field {field} pixels", xlabel="column of the image", ylim=(0, None))
    panels[0].set_ylabel("weight of the column (%)")
    legend_below(figure, panels[0], 2)
    return figure


@styled
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
    shape = (1.35 * (len(stages) + 1) + 0.8, 1.45 * len(sizes) + 0.2)
    figure, grid = grid_of_panels(len(sizes), len(stages) + 1, shape)
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
    figure.colorbar(shown, ax=grid.ravel().tolist(), fraction=0.02, label=f"lung map of {model_title(network)}")
    return figure


def stage_ends(model: torch.nn.Module) -> dict[str, int]:
    """How many poolings lie behind each stage of a ResNet with mask attention, by the stage's name."""
    ends, count = {"stem": 1}, 2  # the stem's convolution and max pooling
    for name in ("layer1", "layer2", "layer3", "layer4"):
        layer: Any = model.get_submodule(name)
        count += sum(len(block.pools(True)) for block in layer)
        ends[name] = count
    return ends


@styled
def confusion_figure(confusion: pd.DataFrame) -> Figure:
    """Table 5 as a picture: images by actual and predicted class, shaded by the share of the actual class."""
    counts = confusion.to_numpy()
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    titles = [class_title(name) for name in confusion.index]
    figure, axes = plt.subplots(figsize=(3.8, 3.4), layout="constrained")
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(titles)), titles, rotation=30, ha="right")
    axes.set_yticks(range(len(titles)), titles)
    axes.set(xlabel="predicted", ylabel="actual")
    for (row, column), count in np.ndenumerate(counts):
        colour = "white" if share[row, column] > 0.5 else "black"
        axes.text(column, row, str(count), ha="center", va="center", color=colour)
    said = [
        f"{title}: " + ", ".join(f"{count} {name}" for name, count in zip(titles, row, strict=True) if count)
        for title, row in zip(titles, counts, strict=True)
    ]
    return described(figure, f"Images by actual and predicted class. {'; '.join(said)}")


def confusion_of(params: Params, paths: RunPaths, model: str, trial: int) -> pd.DataFrame:
    """Confusion matrix of one training run on the test images."""
    table = predictions_of(paths, model, [trial])
    return confusion_matrix(table["label"], table["predicted"], params.classes)
