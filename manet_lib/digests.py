"""What tells files outside of a run from the same files after a change."""

from __future__ import annotations

import hashlib
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

from manet_lib.listing import read_listing
from manet_lib.machine import gpu_name, processor_name
from manet_lib.params import Params
from manet_lib.paths import expand

_READ = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".dcm", ".csv")


def sha256_of(path: Path) -> str:
    """SHA-256 of a file as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def stamp(folder: Path, names: str) -> str:
    """Sizes and times of some files, their names joined by ``;``: another stamp means that they have changed."""
    stamps = []
    for name in filter(None, names.split(";")):
        try:
            state = (folder / name).stat()
            stamps.append(f"{state.st_size}:{state.st_mtime_ns}")
        except OSError:
            stamps.append("-")
    return " ".join(stamps)


def films_digest(params: Params) -> dict[str, Any]:
    """A digest of a user's CSV and of the files that it names, or of the unpacked public collections.

    Files count by size and time. Drawn phantoms need none: parameters and code tell all of them.
    """
    if params.data_source == "phantom":
        return {}
    folder = expand(params.data_dir)
    digest = _listing(folder / params.data_csv) if params.data_source == "manifest" else _folder(folder)
    return {"listing": digest}


def _listing(path: Path) -> str:
    """Of the CSV's bytes and the files named in it; "" where it cannot be read."""
    try:
        digest, table = hashlib.sha256(path.read_bytes()), read_listing(path)
    except (OSError, ValueError):
        return ""
    for column in table.columns.intersection(["path", "mask_path"]):
        digest.update("\n".join(stamp(path.parent, name) for name in table[column]).encode())
    return digest.hexdigest()


def _folder(folder: Path) -> str:
    """Of the films, masks and tables below a folder."""
    found = []
    for place, _, names in os.walk(folder):
        inside = Path(place)
        found += [f"{inside / name} {stamp(inside, name)}" for name in names if name.lower().endswith(_READ)]
    return hashlib.sha256("\n".join(sorted(found)).encode()).hexdigest()


def pretrained_digest(params: Params) -> dict[str, Any]:
    """SHA-256 of the file behind ``pretrained``, where there is one; "" for a file that cannot be read."""
    if params.pretrained == "none":
        return {}
    path = Path(params.pretrained)
    try:
        state = path.stat()
        return {"pretrained_sha256": _sha256_once(path, state.st_size, state.st_mtime_ns)}
    except OSError:
        return {"pretrained_sha256": ""}


def device_digest(params: Params) -> dict[str, Any]:
    """The device that times are measured on; nothing where this machine has none of the asked kind."""
    gpu = "" if params.accelerator == "cpu" else gpu_name()
    if params.accelerator == "cuda" and not gpu:
        return {}
    return {"device": gpu or processor_name()}


@lru_cache(maxsize=8)
def _sha256_once(path: Path, size: int, time: int) -> str:
    return sha256_of(path)
