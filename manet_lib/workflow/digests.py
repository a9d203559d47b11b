"""Digests that change if files outside the run change."""

import hashlib
import os
import shutil
from functools import lru_cache
from pathlib import Path
from typing import Any

from manet_lib.data.listing import read_listing
from manet_lib.params import Params
from manet_lib.paths import expand
from manet_lib.workflow.machine import gpu_count, gpu_name, processor_name

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


def images_digest(params: Params) -> dict[str, Any]:
    """A digest of a user's CSV and of the files that it names, or of the unpacked public collections.

    Files count by size and time. Synthetic phantoms need none: parameters and code tell all of them. Nothing is
    said where the images are out of reach: what was made of them stays.
    """
    folder = expand(params.data_dir)
    if params.data_source == "phantom" or not folder.is_dir():
        return {}
    if params.data_source == "public":
        return {"listing": _folder(folder)}
    there = (folder / params.data_csv).is_file()
    return {"listing": _listing(folder, params.data_csv, "path", "mask_path")} if there else {}


def reference_masks_digest(params: Params) -> dict[str, Any]:
    """A digest of the files that the column ``reference_masks`` of a user's CSV names."""
    folder = expand(params.data_dir)
    named = params.data_source == "manifest" and params.reference_masks
    if not named or not (folder / params.data_csv).is_file():
        return {}
    return {"reference": _listing(folder, params.data_csv, params.reference_masks)}


def _listing(folder: Path, csv_name: str, *columns: str) -> str:
    """A digest of the CSV and of the files named in some columns; "" if it cannot be read."""
    try:
        digest, table = hashlib.sha256((folder / csv_name).read_bytes()), read_listing(folder / csv_name, folder)
    except (OSError, ValueError):
        return ""
    for column in table.columns.intersection(list(columns)):
        digest.update("\n".join(stamp(folder, name) for name in table[column]).encode())
    return digest.hexdigest()


def _folder(folder: Path) -> str:
    """Of the images, masks and tables below a folder, wherever that lies."""
    found = []
    for place, _, names in os.walk(folder, followlinks=True):
        inside = Path(place).relative_to(folder)
        chosen = [(inside / name).as_posix() for name in names if name.lower().endswith(_READ)]
        found += [f"{name} {stamp(folder, name)}" for name in chosen]
    return hashlib.sha256("\n".join(sorted(found)).encode()).hexdigest()


def device_digest(params: Params) -> dict[str, Any]:
    """The device that times are measured on; nothing where this machine has none of the asked kind.

    It is empty on a cluster, too, where one machine plans and another measures.
    """
    if shutil.which("sbatch"):
        return {}
    gpu = "" if params.accelerator == "cpu" or not gpu_count() else gpu_name()
    if params.accelerator == "cuda" and not gpu:
        return {}
    return {"device": gpu or processor_name()}


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


@lru_cache(maxsize=8)
def _sha256_once(path: Path, size: int, time: int) -> str:
    return sha256_of(path)
