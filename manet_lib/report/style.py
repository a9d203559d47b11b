"""How figures look and are written: style, colours, grids of images, and the text that stands for a figure."""

import sys
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib

# whatever the environment or a user's matplotlibrc asks for
matplotlib.use("module://matplotlib_inline.backend_inline" if "ipykernel" in sys.modules else "Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.core.getipython import get_ipython
from matplotlib.axes import Axes
from matplotlib.container import BarContainer, ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from manet_lib.paths import RunPaths
from manet_lib.report.tables import model_title
from manet_lib.workflow.records import atomic_path

plt.switch_backend(matplotlib.get_backend())  # first loaded inside rc_context, inline would show one figure only

Image = NDArray[np.uint8]

STYLE: Any = {"font.size": 9, "axes.titlesize": 9, "axes.spines.top": False, "axes.spines.right": False}
STYLE |= {"text.usetex": False, "text.parse_math": False}  # names of classes are no formulas

styled = matplotlib.rc_context(STYLE)
"""Decorates a function that draws: its figure has this style."""

COLOURS = {"": "#4477aa", "ma": "#ee6677", "cbam": "#228833"}

ATTENTION = {"": "plain", "ma": "MA", "cbam": "CBAM"}


def save_figure(figure: Figure, paths: RunPaths, name: str, dpi: int) -> None:
    """Write a figure as PNG, PDF and SVG to the figures folder; the same figure gives the same bytes."""
    kinds: dict[str, Any] = {"png": {"Software": None}, "pdf": {"CreationDate": None, "Producer": None}}
    with plt.rc_context(STYLE):
        figure.draw_without_rendering()
    figure.set_layout_engine("none")  # what has been laid out stays as it is in all three files
    box = figure.get_tightbbox().padded(plt.rcParams["savefig.pad_inches"])
    for ending, metadata in (kinds | {"svg": {"Date": None, "Creator": None}}).items():
        with (
            atomic_path(paths.figures / f"{name}.{ending}") as temporary,
            plt.rc_context(STYLE | {"svg.hashsalt": name}),
        ):
            figure.savefig(temporary, dpi=dpi, bbox_inches=box, metadata=metadata)


def show_image(axes: Axes, picture: NDArray[Any]) -> None:
    """Show a grey image: 8-bit images from 0 to 255, masks from 0 to 1, maps over their whole range."""
    limits: dict[str, Any] = {}
    if picture.dtype in (np.uint8, np.bool_):
        limits = {"vmin": 0, "vmax": 255 if picture.max() > 1 else 1}
    axes.imshow(picture, cmap="gray", interpolation="nearest", **limits)
    bare(axes)


def bare(axes: Axes) -> None:
    """No ticks and no frame."""
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_visible(False)


@styled
def picture_grid(
    rows: Sequence[Sequence[NDArray[Any]]], columns: Sequence[str], labels: Sequence[str] = ()
) -> Figure:
    """Pictures in rows and columns, as in Figs. 1, 3 and 8.

    Args:
        rows: pictures (H, W), shown as :func:`show_image` does.
        columns: title of each column.
        labels: title of each row, or nothing.
    """
    size = (1.45 * len(columns) + 0.3, 1.45 * len(rows) + 0.25)
    figure, grid = grid_of_panels(len(rows), len(columns), size)
    for axes_row, pictures in zip(grid, rows, strict=True):
        for axes, picture in zip(axes_row, pictures, strict=True):
            show_image(axes, picture)
    for axes, label in zip(grid[:, 0], labels, strict=False):
        axes.set_ylabel(label)
    for axes, title in zip(grid[0], columns, strict=True):
        axes.set_title(title)
    return figure


def grid_of_panels(rows: int, columns: int, size: tuple[float, float], **options: Any) -> tuple[Figure, Any]:
    """A figure of a size in inches, and its panels, an array (rows, columns)."""
    return plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained", **options)


def row_of_panels(count: int, width: float, height: float, **options: Any) -> tuple[Figure, Any]:
    """A figure of some panels side by side, each so many inches wide."""
    figure, panels = grid_of_panels(1, count, (width * count, height), **options)
    return figure, panels[0]


def legend_below(figure: Figure, axes: Axes, columns: int = 0) -> None:
    """The legend of a panel below the figure, in one row if no number of columns is given."""
    entries = axes.get_legend_handles_labels()
    figure.legend(
        *entries, loc="outside lower center", ncols=columns or len(entries[0]), frameon=False, fontsize=8
    )


@styled
def backbone_panels(
    models: Sequence[str], width: float, height: float, label: str
) -> tuple[Figure, dict[str, Axes]]:
    """A figure with a panel for each backbone of some models, by its name; with a label of the vertical axis."""
    backbones = list(dict.fromkeys(model.partition("_")[0] for model in models))
    figure, panels = row_of_panels(len(backbones), max(width, 1.6 * width / len(backbones)), height, sharey=True)
    for axes, backbone in zip(panels, backbones, strict=True):
        axes.set_title(model_title(backbone))
        axes.grid(alpha=0.25)
    panels[0].set_ylabel(label)
    return figure, dict(zip(backbones, panels, strict=True))


def draw_bounds(axes: Axes, places: NDArray[Any], table: pd.DataFrame, model: str, **look: Any) -> None:
    """Draw a model's accuracies with their intervals, in its colour."""
    accuracy, low, high = table[["accuracy", "low", "high"]].to_numpy().T
    errors = [accuracy - low, high - accuracy]
    axes.errorbar(places, accuracy, yerr=errors, marker="o", **look_of(model), **look)


def look_of(model: str) -> dict[str, Any]:
    """Colour and label of a line: that of plain networks, of MA, or of CBAM."""
    kind = model.partition("_")[2]
    return {"color": COLOURS[kind], "label": ATTENTION[kind]}


_LONGEST = 700


def described(figure: Figure, text: str) -> Figure:
    """Give a figure the words that stand for it, where they say more than :func:`alternative_text` would find."""
    figure.set_label(text)
    return figure


def alternative_text(figure: Figure) -> str:
    """What a figure shows: the words that it was given, or else what can be read from its parts.

    That is: titles, the names of rows and columns of pictures, axes, where each named line begins and ends, bars,
    and words that are drawn. Empty if the figure has no text of its own.
    """
    given = str(figure.get_label())
    if given:
        return given
    panels = [axes for axes in figure.axes if axes.get_label() != "<colorbar>"]
    pictured = [axes for axes in panels if axes.images and not axes.texts and not _series(axes)]
    said = [figure.get_suptitle(), _pictures(pictured), *(_panel(axes) for axes in panels if axes not in pictured)]
    text = ". ".join(" ".join(one.split()) for one in said if one)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1].rsplit(" ", 1)[0] + " …"


def _pictures(panels: list[Axes]) -> str:
    columns = list(dict.fromkeys(axes.get_title() for axes in panels if axes.get_title()))
    rows = list(dict.fromkeys(axes.get_ylabel() for axes in panels if axes.get_ylabel()))
    named = [f"{kind} {', '.join(names)}" for kind, names in (("columns", columns), ("rows", rows)) if names]
    return f"Pictures: {'; '.join(named)}" if named else ""


def _panel(axes: Axes) -> str:
    about = " by ".join(filter(None, (axes.get_ylabel(), axes.get_xlabel())))
    words = ", ".join(text.get_text() for text in axes.texts if text.get_text())
    head = ", ".join(filter(None, (axes.get_title(), about)))
    return ": ".join(filter(None, (head, "; ".join(filter(None, (*_series(axes), words))))))


def _series(axes: Axes) -> list[str]:
    """Each named line, set of points with intervals, and set of bars of a panel, with where it begins and ends."""
    named: dict[str, str] = {}
    for container in axes.containers:
        label = str(container.get_label())
        if isinstance(container, ErrorbarContainer) and container.lines[0] is not None:
            named[label] = _ends(container.lines[0])
        elif isinstance(container, BarContainer):
            sizes = [float(bar.get_height()) for bar in container.patches]
            named[label] = ", ".join(f"{size:.3g}" for size in sizes)
    named |= {str(line.get_label()): _ends(line) for line in axes.lines}
    return [f"{label} {values}" for label, values in named.items() if values and not label.startswith("_")]


def _ends(line: Line2D) -> str:
    x, y = (np.asarray(values).tolist() for values in line.get_data())
    return f"from {_short(y[0])} at {_short(x[0])} to {_short(y[-1])} at {_short(x[-1])}" if x else ""


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float | int) else str(value)


def keep_in_notebooks() -> None:
    """Let every figure that a notebook shows carry its alternative text in the metadata of the output."""
    shell: Any = get_ipython()
    if shell is None:
        return

    def install(*_: Any) -> None:
        formatter = shell.display_formatter.formatters["image/png"]
        plain = formatter.type_printers.get(Figure)
        if plain is not None and not isinstance(plain, _Worded):
            formatter.for_type(Figure, _Worded(plain))

    install()
    shell.events.register("pre_run_cell", install)  # the inline backend sets its own each time that it is chosen


class _Worded:
    """A function that draws a figure as PNG, and adds what it shows."""

    def __init__(self, plain: Callable[[Figure], Any]) -> None:
        self.plain = plain

    def __call__(self, figure: Figure) -> Any:
        drawn = self.plain(figure)
        data, metadata = drawn if isinstance(drawn, tuple) else (drawn, {})
        text = alternative_text(figure)
        return (data, metadata | ({"alt": text} if text else {})) if data is not None else None


keep_in_notebooks()
