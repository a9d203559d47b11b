"""Progress for people: a bar in a terminal and in a live notebook, plain lines elsewhere."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from importlib import import_module
from typing import Any

from tqdm import tqdm


def is_live() -> bool:
    """Whether somebody watches: a terminal, or a notebook opened through a Jupyter server."""
    return "JPY_SESSION_NAME" in os.environ or ("ipykernel" not in sys.modules and sys.stderr.isatty())


def bar(items: Iterable[Any] | None, total: int, text: str, *, unit: str = "it", quiet: bool = False) -> tqdm[Any]:
    """A bar where somebody watches, silent elsewhere; with count, rate and time left.

    Args:
        items: what to iterate over, or None for a bar that is moved by hand with ``update``.
        total: how many there are.
        text: what is being done.
        unit: of what there are, for the rate.
        quiet: never show a bar (of ranks other than 0).
    """
    kind: type[tqdm[Any]] = tqdm
    if "JPY_SESSION_NAME" in os.environ:
        kind = import_module("tqdm.notebook").tqdm
    return kind(items, total=total, desc=text, unit=f" {unit}", leave=False, disable=quiet or not is_live())
