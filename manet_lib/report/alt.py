"""What a figure shows, in words, for those who do not see it: the alternative text of every picture."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from IPython.core.getipython import get_ipython
from matplotlib.axes import Axes
from matplotlib.container import BarContainer, ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

_LONGEST = 700


def described(figure: Figure, text: str) -> Figure:
    """Give a figure the words that stand for it, where they say more than :func:`alternative_text` would find."""
    figure.set_label(text)
    return figure


def alternative_text(figure: Figure) -> str:
    """What a figure shows: the words that it was given, or else what can be read from its parts.

    That is: titles, the names of rows and columns of pictures, axes, where each named line begins and ends, bars,
    and words that are drawn. Nothing, where a figure says nothing of itself.
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
