"""The paper's drawings (Figs. 2, 4 to 7), drawn from the modules that run, so that they cannot drift from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle
from numpy.typing import NDArray
from torch import nn
from torch.overrides import TorchFunctionMode

from manet_lib.data.scaling import enlarged
from manet_lib.models import create_model
from manet_lib.models.cbam import CBAM
from manet_lib.models.mask_attention import MaskPool
from manet_lib.models.resunet import create_segmenter
from manet_lib.report.figures import STYLE, bare

_COLOURS = {
    "conv": "#cfe0f1",
    "batch norm": "#e8e8e8",
    "ReLU": "#f4f4f4",
    "× lung map": "#f6b7c1",
    "CBAM": "#bfe3c9",
}
_SHORTCUT = "+ shortcut"


class _Operations(TorchFunctionMode):
    """Records what a network computes, in order, in the words of the drawings."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.inside_cbam = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        word = _word(func.__name__, args)
        if word and not self.inside_cbam:
            self.found.append(word)
        return result


def _word(name: str, args: Sequence[Any]) -> str:
    if name == "conv2d":
        return f"conv {args[1].shape[2]}×{args[1].shape[3]}"
    if name in ("mul_", "mul", "__mul__"):
        return "× lung map"
    words = {"batch_norm": "batch norm", "relu": "ReLU", "relu_": "ReLU", "__iadd__": _SHORTCUT, "add_": _SHORTCUT}
    return words.get(name, "")


def operations(model: nn.Module, block: str, image_size: int = 64) -> list[str]:
    """What a block of a network computes, traced while it runs.

    Args:
        model: a classifier.
        block: name of a module of it; "" for the whole network.
        image_size: of the film that is run through it.

    Returns:
        `conv 3×3`, `batch norm`, `ReLU`, `× lung map`, `CBAM`, `+ shortcut`, in the order of the computation.
    """
    trace = _Operations()
    before = 0

    def enter(*_: Any) -> None:
        nonlocal before
        before = len(trace.found)

    after: list[int] = []
    chosen = model.get_submodule(block)
    hooks = [
        chosen.register_forward_pre_hook(enter),
        chosen.register_forward_hook(lambda *_: after.append(len(trace.found))),
    ]
    for module in model.modules():
        if isinstance(module, CBAM):
            hooks.append(module.register_forward_pre_hook(lambda *_: setattr(trace, "inside_cbam", True)))
            hooks.append(module.register_forward_hook(lambda *_: _leave(trace)))
    try:
        with torch.no_grad(), trace:
            blank = torch.zeros(1, 1, image_size, image_size, device=next(model.parameters()).device)
            model.eval()(blank, blank)
    finally:
        for hook in hooks:
            hook.remove()
    return trace.found[before : after[0]]


def _leave(trace: _Operations) -> None:
    trace.inside_cbam = False
    trace.found.append("CBAM")


def _colour(word: str) -> str:
    return next((colour for start, colour in _COLOURS.items() if word.startswith(start)), "white")


def _box(
    axes: Axes, x: float, y: float, word: str, width: float = 1.5, height: float = 0.6, size: float = 8
) -> None:
    corner = (x - width / 2, y - height / 2)
    axes.add_patch(
        FancyBboxPatch(corner, width, height, "round,pad=0.02,rounding_size=0.1", fc=_colour(word), ec="#555555")
    )
    axes.text(x, y, word, ha="center", va="center", fontsize=size)


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], bend: float = 0.0) -> None:
    style = f"arc3,rad={bend}"
    axes.add_patch(
        FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=8, connectionstyle=style, color="#555555")
    )


def _chain(axes: Axes, words: Sequence[str], title: str, x: float = 0.0) -> None:
    """Operations one below the other; the shortcut goes from the input to the addition."""
    axes.text(x, 0, "features", ha="center", va="center", fontsize=8)
    for place, word in enumerate(words, start=1):
        _box(axes, x, -place, word)
        _arrow(axes, (x, -place + 0.78 if place > 1 else -0.2), (x, -place + 0.32))
        if word == _SHORTCUT:
            edge = x + 0.8
            axes.plot([x + 0.45, edge + 0.25, edge + 0.25], [0, 0, -place], color="#555555", linewidth=1)
            _arrow(axes, (edge + 0.25, -place), (edge - 0.02, -place))
    axes.set_title(title)


def _frame(axes: Axes, rows: int, left: float = -1.1, right: float = 1.3) -> None:
    axes.set(xlim=(left, right), ylim=(-rows - 0.6, 0.5))
    bare(axes)


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
    with plt.rc_context(STYLE):
        figure, panels = plt.subplots(1, 4, figsize=(8.6, 4.6), width_ratios=(1, 1, 1, 2.1), layout="constrained")
        for axes, (title, words) in zip(panels, chains.items(), strict=False):
            _chain(axes, words, title)
            _frame(axes, rows)
        _mixed_block(panels[3], "Mixed_5b", rows)
    return figure


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
        _arrow(axes, (middle, -0.2), (x, -0.68))
        for place, word in enumerate(words, start=1):
            _box(axes, x, -place, word, 1.75, size=7)
            if place > 1:
                _arrow(axes, (x, -place + 0.68), (x, -place + 0.32))
        axes.plot([x, x], [-len(words) - 0.32, -joined + 1.05], color="#555555", linewidth=1)  # past the others
        _arrow(axes, (x, -joined + 1.05), (middle + 0.3 * (column - 1.5), -joined + 0.32))
    _box(axes, middle, -joined, "concatenate", 2.4)
    _box(axes, middle, -joined - 1, "× lung map", 2.4)
    _arrow(axes, (middle, -joined - 0.32), (middle, -joined - 0.68))
    axes.set_title(f"Inception v3: {name}")
    _frame(axes, rows, -1.1, 2 * middle + 1.1)


def cbam_figure() -> Figure:
    """Fig. 7: where CBAM sits in a block, and what it is."""
    size: Any = CBAM(64).spatial.kernel_size
    places = f"conv {size[0]}×{size[1]}, σ"
    inside = ["average and maximum\nover places", "shared MLP, sum, σ", "× channels"]
    inside += ["average and maximum\nover channels", places, "× places"]
    with torch.device("meta"):
        basic, bottleneck = (create_model(f"{name}_cbam") for name in ("resnet34", "resnet50"))
    chains = {
        "basic block with CBAM": operations(basic, "layer1.1"),
        "bottleneck with CBAM": operations(bottleneck, "layer1.1"),
        "CBAM": inside,
    }
    rows = max(map(len, chains.values()))
    with plt.rc_context(STYLE):
        figure, panels = plt.subplots(1, 3, figsize=(6.6, 4.8), layout="constrained")
        for axes, (title, words) in zip(panels, chains.items(), strict=True):
            if title == "CBAM":
                axes.text(0, 0, "features", ha="center", va="center", fontsize=8)
                for place, word in enumerate(words, start=1):
                    _box(axes, 0, -place, word, 2.1, 0.68)
                    _arrow(axes, (0, -place + 0.66 if place > 1 else -0.2), (0, -place + 0.36))
                axes.set_title(title)
            else:
                _chain(axes, words, title)
            _frame(axes, rows)
    return figure


def resunet_shapes(encoder: str, image_size: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Channels and side of what the encoder and the decoder of the ResUNet make, traced on a film.

    Returns:
        Encoder from the film down, and decoder from the bottom up; each a list of (channels, side).
    """
    with torch.device("meta"):
        model: Any = create_segmenter(encoder).eval()
        film = torch.zeros(1, 1, image_size, image_size)
    up: list[tuple[int, int]] = []
    hooks = [
        block.register_forward_hook(lambda _, __, out: up.append((out.shape[1], out.shape[2])))
        for block in model.decoder.blocks
    ]
    with torch.no_grad():
        down = [(part.shape[1], part.shape[2]) for part in model.encoder(film)]
        model(film)
    for hook in hooks:
        hook.remove()
    return down, up


def resunet_figure(encoder: str = "resnet34", image_size: int = 512) -> Figure:
    """Fig. 4: the ResUNet of stage 1, with the channels and sizes that it really has."""
    down, up = resunet_shapes(encoder, image_size)
    depth = {side: row for row, (_, side) in enumerate(down)}
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(8.4, 3.6), layout="constrained")
        last = len(down) - 1
        for column, (channels, side) in enumerate(down):
            _box(axes, 2.1 * column, -depth[side], f"{channels}×{side}²", 1.9, size=7)
            if column:
                _arrow(axes, (2.1 * column - 1.25, -depth[side] + 0.7), (2.1 * column - 0.45, -depth[side] + 0.34))
        for step, (channels, side) in enumerate(up, start=1):
            x = 2.1 * (last + step)
            _box(axes, x, -depth[side], f"{channels}×{side}²", 1.9, size=7)
            _arrow(axes, (x - 1.25, -depth[side] - 0.68), (x - 0.45, -depth[side] - 0.34))
            if depth[side] > 0:  # the film itself is not joined
                _arrow(axes, (2.1 * depth[side] + 0.92, -depth[side]), (x - 0.94, -depth[side]))
        end = 2.1 * (last + len(up))
        axes.text(0, 0.55, "film", ha="center", fontsize=8)
        for x, word in ((0.7 * last, "encoder"), (2.1 * last + 1.4 * len(up), "decoder")):
            axes.text(x, -0.75 * last, word, ha="center", fontsize=9, fontweight="bold")
        axes.text(end, 0.55, "3×3, σ: lung mask", ha="center", fontsize=8)
        axes.text(
            2.1 * last,
            -last - 0.65,
            f"{encoder}: 2×2 steps down;  nearest × 2 up, joined along the arrows",
            ha="center",
            fontsize=8,
        )
        axes.set(xlim=(-1.1, end + 1.4), ylim=(-last - 1, 0.9))
        bare(axes)
    return figure


def small_mask(size: int = 7) -> NDArray[np.float32]:
    """Two lungs on a few places: float32 (size, size), 0 or 1; the one on the left is the larger."""
    mask = np.zeros((size, size), dtype=np.float32)
    mask[1 : size - 1, 1:3] = 1
    mask[2 : size - 1, size - 3 : size - 1] = 1
    return mask


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
    with plt.rc_context(STYLE):
        figure, panels = plt.subplots(1, 2, figsize=(5.6, 2.9), width_ratios=(1.5, 1), layout="constrained")
        _numbers(panels[0], mask, "{:.0f}")
        _numbers(panels[1], pooled, "{:.2f}")
        border = (padding - 0.5, padding - 0.5)
        panels[0].add_patch(Rectangle(border, size, size, fill=False, ec="#555555", lw=1))
        corner = (column * stride - 0.5, row * stride - 0.5)
        panels[0].add_patch(Rectangle(corner, kernel, kernel, fill=False, ec="#cc3311", lw=2))
        panels[1].add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, ec="#cc3311", lw=2))
        panels[0].set_title("lung mask with its padding, and a receptive field")
        panels[1].set_title(f"P(M; k={kernel}, s={stride}, p={padding}): its share of lung")
    return figure


def _numbers(axes: Axes, values: NDArray[np.float32], form: str) -> None:
    axes.imshow(values, cmap="Blues", vmin=0, vmax=1.6)
    for (row, column), value in np.ndenumerate(values):
        axes.text(column, row, form.format(value), ha="center", va="center", fontsize=8)
    bare(axes)


def workflow_figure(film: NDArray[np.uint8], raw: NDArray[np.uint8], clean: NDArray[np.uint8]) -> Figure:
    """Fig. 2: the two stages, on one film.

    Args:
        film: uint8 (H, H); H may be a multiple of S.
        raw: mask that stage 1 predicts, 0 or 1, (S, S).
        clean: after post-processing, 0 or 1, (S, S).
    """
    pictures = (
        (film, "film"),
        (raw * np.uint8(255), "raw mask"),
        (clean * np.uint8(255), "lung mask"),
        (film * enlarged(clean, len(film)), "segmented film"),
    )
    steps = ("stage 1:\nResUNet", "post-\nprocessing", "film × mask")
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(8.4, 2.1), layout="constrained")
        for place, (picture, words) in enumerate(pictures):
            left = 2.5 * place
            axes.imshow(
                picture,
                cmap="gray",
                vmin=0,
                vmax=255,
                extent=(left, left + 1.4, -0.7, 0.7),
                interpolation="antialiased",
            )
            axes.text(left + 0.7, -0.95, words, ha="center", va="center")
        for place, words in enumerate(steps):
            _arrow(axes, (2.5 * place + 1.45, 0), (2.5 * place + 2.45, 0))
            axes.text(2.5 * place + 1.95, 0.32, words, ha="center", va="center", fontsize=8)
        _box(axes, 10.4, 0, "stage 2:\nCNN with MA", 1.7, 0.9)
        _arrow(axes, (8.95, 0), (9.52, 0))
        axes.plot([5.7, 5.7, 10.4], [0.72, 1.05, 1.05], color="#555555", linewidth=1)
        _arrow(axes, (10.4, 1.05), (10.4, 0.48))
        axes.text(8.2, 1.2, "the mask, pooled with the features", ha="center", fontsize=8)
        _arrow(axes, (11.28, 0), (11.9, 0))
        axes.text(12.0, 0, "class", ha="left", va="center")
        axes.set(xlim=(-0.1, 12.8), ylim=(-1.15, 1.4), aspect="equal")
        bare(axes)
    return figure
