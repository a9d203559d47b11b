"""Films in a folder, read ahead by threads while something else is done with those before."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from manet_lib.data.images import read_grey
from manet_lib.data.scaling import resize
from manet_lib.params import UserError

SUFFIXES = frozenset(
    (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp", ".dcm", ".dicom", ".ima", "")
)
"""Endings of files that may be films; DICOM often has none."""
_THREADS = 2
_AHEAD = 32

Read = NDArray[np.uint8] | UserError


def films_in(place: Path) -> list[Path]:
    """The film of this name, or all films in a folder and the folders below it, by name.

    Raises:
        UserError: there is no such file or folder, or no film in it.
    """
    if place.is_file():
        return [place]
    if not place.is_dir():
        raise UserError(f"{place}: no such file or folder")
    inside = (path for path in sorted(place.rglob("*")) if path.is_file())
    films = [path for path in inside if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")]
    if not films:
        raise UserError(f"{place}: no film in it; expected {', '.join(sorted(SUFFIXES - {''}))}")
    return films


def read_films(files: Sequence[Path], size: int) -> Iterator[tuple[Path, Read]]:
    """Each file with its film, uint8 (size, size), or with why it cannot be read; in order, some files ahead."""

    def read(file: Path) -> Read:
        try:
            return resize(read_grey(file), (size, size))
        except UserError as error:
            return error

    waiting = iter(files)
    with ThreadPoolExecutor(_THREADS) as pool:
        ahead: deque[tuple[Path, Future[Read]]] = deque()
        ahead.extend((file, pool.submit(read, file)) for file in islice(waiting, _AHEAD))
        while ahead:
            file, film = ahead.popleft()
            yield file, film.result()
            ahead.extend((later, pool.submit(read, later)) for later in islice(waiting, 1))
