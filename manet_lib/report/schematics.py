"""What the paper's schematics share: the operations of a network, traced while it runs, as boxes and arrows."""

from collections.abc import Sequence
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from torch import nn
from torch.overrides import TorchFunctionMode

from manet_lib.models.cbam import CBAM

_COLOURS = {
    "conv": "#cfe0f1",
    "batch norm": "#e8e8e8",
    "ReLU": "#f4f4f4",
    "× lung map": "#f6b7c1",
    "CBAM": "#bfe3c9",
}

SHORTCUT = "+ shortcut"


class _Operations(TorchFunctionMode):
    """Records what a network computes, in order, in the words of the drawings."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        word = _word(func.__name__, args)
        if word:
            self.found.append(word)
        return result


def _word(name: str, args: Sequence[Any]) -> str:
    if name == "conv2d":
        return f"conv {args[1].shape[2]}×{args[1].shape[3]}"
    if name in ("mul_", "mul", "__mul__"):
        return "× lung map"
    words = {"batch_norm": "batch norm", "relu": "ReLU", "relu_": "ReLU", "__iadd__": SHORTCUT, "add_": SHORTCUT}
    return words.get(name, "")


def operations(model: nn.Module, block: str, image_size: int = 64) -> list[str]:
    """What a block of a network computes, traced while it runs.

    Args:
        model: a classifier.
        block: name of a module of it; "" for the whole network.
        image_size: of the image that is run through it.

    Returns:
        `conv 3×3`, `batch norm`, `ReLU`, `× lung map`, `CBAM`, `+ shortcut`, in the order of the computation.
    """
    trace, starts, found = _Operations(), list[int](), list[str]()

    def enter(*_: Any) -> None:
        starts.append(len(trace.found))

    def leave(module: nn.Module, *_: Any) -> None:
        start = starts.pop()
        if isinstance(module, CBAM):
            trace.found[start:] = ["CBAM"]
        else:
            found.extend(trace.found[start:])

    chosen = [model.get_submodule(block), *(part for part in model.modules() if isinstance(part, CBAM))]
    hooks = [part.register_forward_pre_hook(enter) for part in chosen]
    hooks += [part.register_forward_hook(leave) for part in chosen]
    try:
        with torch.no_grad(), trace:
            blank = torch.zeros(1, 1, image_size, image_size, device=next(model.parameters()).device)
            model.eval()(blank, blank)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _colour(word: str) -> str:
    return next((colour for start, colour in _COLOURS.items() if word.startswith(start)), "white")


def box(
    axes: Axes, x: float, y: float, word: str, width: float = 1.5, height: float = 0.6, size: float = 8
) -> None:
    """Draw a rounded box around a word, coloured by the operation that the word names."""
    corner = (x - width / 2, y - height / 2)
    axes.add_patch(
        FancyBboxPatch(corner, width, height, "round,pad=0.02,rounding_size=0.1", fc=_colour(word), ec="#555555")
    )
    axes.text(x, y, word, ha="center", va="center", fontsize=size)


def arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Draw an arrow from one place to another."""
    axes.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=8, color="#555555"))
