"""Progress for people: a bar in a terminal and in a live notebook, plain lines elsewhere."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


def is_live() -> bool:
    """Whether somebody watches: a terminal, or a notebook opened through a Jupyter server."""
    return "JPY_SESSION_NAME" in os.environ or ("ipykernel" not in sys.modules and sys.stderr.isatty())


def bar(items: Iterable[Item], total: int, text: str, *, quiet: bool = False) -> Iterator[Item]:
    """Iterate with a bar where somebody watches, silently elsewhere.

    Args:
        items: what to iterate over.
        total: how many there are.
        text: what is being done.
        quiet: never show a bar (of ranks other than 0).
    """
    if quiet or not is_live():
        yield from items
        return
    if "JPY_SESSION_NAME" in os.environ:
        from tqdm.notebook import tqdm as live_tqdm
    else:
        live_tqdm = tqdm
    yield from live_tqdm(items, total=total, desc=text, leave=False)
