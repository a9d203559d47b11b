"""Images in a folder, read ahead by threads while something else is done with those before."""

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from manet_lib.data.images import raised_limits, read_grey
from manet_lib.data.scaling import resize
from manet_lib.data.sources.base import is_litter
from manet_lib.params import UserError

SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp", ".dcm", ".dicom", ".ima"))
"""Endings that say that a file is meant to be an image, so that it is named where it cannot be read as one."""

Image.init()
FORMATS = tuple(
    name
    for name in ("PNG", "JPEG", "TIFF", "BMP", "DIB", "GIF", "WEBP", "PPM", "JPEG2000", "PCX", "SGI", "AVIF")
    if name in Image.OPEN
)
"""What Pillow may recognise; it knows formats that are no images, or that any text could be."""

OWN_PICTURE = "manet predict"
"""The Software that PNG files of this project's own pictures name, which separates them from images."""

_THREADS = 2
_AHEAD = 32
_START = 65536

Read = NDArray[np.uint8] | UserError


@dataclass
class Found:
    """What lies in a folder.

    Attributes:
        images: files that are images, or are meant to be, by name.
        passed_over: files and folders that could not be looked into or hold something else, and why. Text files,
            what systems leave behind and pictures of ``manet predict`` are not among them.
    """

    images: list[Path] = field(default_factory=list)
    passed_over: list[tuple[Path, str]] = field(default_factory=list)


def images_in(place: Path) -> Found:
    """The image of this name, or all images in a folder and the folders below it, recognised by their content.

    Args:
        place: a file or a folder; links are followed.

    Raises:
        UserError: there is no such file or folder, or no image in it.
    """
    if place.is_file():
        return Found([place])
    if not place.is_dir():
        raise UserError(f"{place}: no such file or folder")
    found = Found()
    for path in sorted(_files(place, found)):
        reason = _why_not(path)
        if reason is None:
            found.images.append(path)
        elif reason:
            found.passed_over.append((path, f"{path.name}: {reason}"))
    if not found.images and not found.passed_over:
        raise UserError(f"{place}: no image in it; expected {', '.join(sorted(SUFFIXES))} or others by content")
    return found


def _files(place: Path, found: Found) -> Iterator[Path]:
    """All files below a folder, each folder once even where links make a circle."""

    def unreadable(error: OSError) -> None:
        folder = Path(os.fsdecode(error.filename))
        found.passed_over.append((folder, f"{folder.name}: {(error.strerror or str(error)).lower()}"))

    seen: set[tuple[int, int]] = set()
    for name, folders, files in os.walk(place, onerror=unreadable, followlinks=True):
        folder = Path(name)
        state = folder.stat()
        if (state.st_dev, state.st_ino) in seen:
            folders.clear()
            continue
        seen.add((state.st_dev, state.st_ino))
        folders[:] = [one for one in folders if not is_litter(one)]
        yield from (folder / one for one in files if not is_litter(one))


def _why_not(path: Path) -> str | None:
    """None for an image and what is meant to be one, else the reason; "" for what nobody would take for one."""
    named = path.suffix.lower() in SUFFIXES
    try:
        if not path.exists():
            return "a link to a file that is not there"
        if not path.is_file():
            return ""
        with path.open("rb") as file:
            start = file.read(_START)
    except OSError as error:
        return (error.strerror or str(error)).lower()
    if path.name == "DICOMDIR":
        return ""
    if start[128:132] == b"DICM":
        return None
    try:
        with raised_limits(), Image.open(path, formats=FORMATS) as picture:
            return "" if picture.info.get("Software") == OWN_PICTURE else None
    except Exception:  # Pillow raises many kinds for what only begins like an image
        pass
    if named or start[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return None
    from manet_lib.data.dicom import is_dicom  # not before it is needed

    return "" if _is_text(start) else None if is_dicom(start) else "not an image"


def _is_text(start: bytes) -> bool:
    if not start or b"\0" in start:
        return not start
    try:
        start.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start > len(start) - 4  # a character that the end cuts in two
    return True


def read_images(files: Sequence[Path], size: int) -> Iterator[tuple[Path, Read]]:
    """Each file with its image, uint8 (size, size), or with why it cannot be read; in order, some files ahead."""

    def read(file: Path) -> Read:
        try:
            return resize(read_grey(file), (size, size))
        except UserError as error:
            return error

    waiting = iter(files)
    pool = ThreadPoolExecutor(_THREADS)
    try:
        ahead: deque[tuple[Path, Future[Read]]] = deque()
        ahead.extend((file, pool.submit(read, file)) for file in islice(waiting, _AHEAD))
        while ahead:
            file, image = ahead.popleft()
            yield file, image.result()
            ahead.extend((later, pool.submit(read, later)) for later in islice(waiting, 1))
    finally:
        pool.shutdown(cancel_futures=True)
