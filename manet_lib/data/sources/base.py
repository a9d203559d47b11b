"""What every public source has in common."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from manet_lib.params import UserError

ROW_COLUMNS = ("path", "label", "source", "patient", "mask_path", "original_split")
"""Columns of a source's rows. ``mask_path`` may join several masks with ``;``; they are merged."""


@dataclass(frozen=True)
class Archive:
    """One file to fetch.

    Attributes:
        name: how it is called here.
        url: where it is published.
        bytes: its published size, or 0 where none is stated.
    """

    name: str
    url: str
    bytes: int = 0


@dataclass(frozen=True)
class Source:
    """One public collection of images.

    Attributes:
        name: short name, the manifest's ``source``.
        title: what it is.
        home: its page, for whoever fetches it by hand.
        citation: how to cite it.
        licence: its terms, in short.
        archives: what to fetch.
        counts: images by class in the published listing.
        marker: a path inside the unpacked collection by which its folder is recognised.
        read: rows of the images in that folder; paths relative to it.
        fits: whether a folder with the marker is this collection's, and not another's of the same layout.
        complete: whether that folder, or one around it, holds what all of the archives hold.
    """

    name: str
    title: str
    home: str
    citation: str
    licence: str
    archives: tuple[Archive, ...]
    counts: dict[str, int]
    marker: str
    read: Callable[[Path], pd.DataFrame]
    fits: Callable[[Path], bool] = Path.is_dir
    complete: Callable[[Path], bool] = Path.is_dir

    def folder(self, data: Path) -> Path | None:
        """The folder below ``data`` that holds the unpacked collection, or None."""
        first = self.marker.split("/")[0]
        places = [data, *sorted(_folders(data, first))]
        return next((place for place in places if (place / self.marker).exists() and self.fits(place)), None)


def _folders(data: Path, name: str, depth: int = 4) -> Iterator[Path]:
    """Folders up to ``depth`` levels down that hold an entry of that name."""
    if not data.is_dir() or depth == 0:
        return
    for child in data.iterdir():
        if child.is_dir() and not is_litter(child.name):
            if (child / name).exists():
                yield child
            yield from _folders(child, name, depth - 1)


def is_litter(name: str) -> bool:
    """Whether a name is what systems leave among the files (``._image.jpeg``, ``__MACOSX``, ``Thumbs.db``)."""
    return name.startswith((".", "__MACOSX")) or name.lower() in ("thumbs.db", "desktop.ini")


def rows_of(rows: list[tuple[str, str, str, str, str, str]], source: str, folder: Path) -> pd.DataFrame:
    """A source's rows as a table, in the order of their paths, without what other systems left among its files.

    Raises:
        UserError: there are none.
    """
    rows = [row for row in rows if not any(map(is_litter, Path(row[0]).parts))]
    if not rows:
        raise UserError(f"{source}: no image found in {folder.name}/; is the archive unpacked whole?")
    return pd.DataFrame(sorted(rows), columns=list(ROW_COLUMNS))
