"""The image store: films and drawn masks decoded and resized once, memory-mapped ever after."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from os import cpu_count
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from manet_lib.artifacts import Step, atomic_path, read_table
from manet_lib.data.images import read_grey, read_mask, resize
from manet_lib.data.sources import find_rows
from manet_lib.params import Params, UserError, view
from manet_lib.paths import RunPaths
from manet_lib.progress import bar

_LISTED = 20


def _ids(paths: Iterable[str]) -> list[str]:
    """File stems where they are unique, else whole paths, numbered if even these coincide without slashes."""
    paths = list(paths)
    for names in ([Path(path).stem for path in paths], [path.replace("/", "_") for path in paths]):
        if len(set(names)) == len(names):
            return names
    return [f"{number}_{Path(path).stem}" for number, path in enumerate(paths)]


@dataclass(frozen=True)
class Store:
    """Films and masks of a run.

    Attributes:
        images: uint8 (N, S, S), memory-mapped.
        masks: drawn lung masks, uint8 0 or 1, (N, S, S), memory-mapped; zeros where there is none.
        index: one row per film, in the same order: image_id, path, label, source, patient, mask_path, width,
            height, sha256.
    """

    images: NDArray[np.uint8]
    masks: NDArray[np.uint8]
    index: pd.DataFrame

    @classmethod
    def open(cls, folder: Path) -> Store:
        """Open the store in a folder, without reading its pixels."""
        images, masks = (np.load(folder / name, mmap_mode="r") for name in ("images.npy", "masks.npy"))
        return cls(images, masks, read_table(folder / "index.csv"))


def store_step(params: Params, paths: RunPaths) -> Step:
    """The step that builds the store."""
    outputs = [paths.store / name for name in ("images.npy", "masks.npy", "index.csv")]
    return Step("store", paths.store, params, [], outputs)


def build_store(params: Params, paths: RunPaths) -> bool:
    """Find the films of a run and decode, check and resize each once.

    Args:
        params: of the run.
        paths: of the run.

    Returns:
        Whether there was anything to do.

    Raises:
        UserError: one line that lists every file that cannot be used.
    """
    return store_step(params, paths).run(lambda: _build(view(params, "store"), paths))


def _build(params: Params, paths: RunPaths) -> None:
    folder, rows = find_rows(params, paths.phantoms)
    size, faults, facts = params.image_size, [], []
    with (
        atomic_path(paths.store / "images.npy") as image_file,
        atomic_path(paths.store / "masks.npy") as mask_file,
        ThreadPoolExecutor(cpu_count()) as pool,
    ):
        shape = (len(rows), size, size)
        images = np.lib.format.open_memmap(image_file, mode="w+", dtype=np.uint8, shape=shape)
        masks = np.lib.format.open_memmap(mask_file, mode="w+", dtype=np.uint8, shape=shape)
        jobs = pool.map(lambda row: _load(folder, row.path, row.mask_path, size), rows.itertuples())
        for number, (image, mask, fact, fault) in enumerate(bar(jobs, len(rows), "reading films")):
            if fault:
                faults.append(fault)
                continue
            images[number], masks[number] = image, mask
            facts.append(fact)
        if faults:
            listed = "; ".join(faults[:_LISTED]) + ("; ..." if len(faults) > _LISTED else "")
            raise UserError(f"{len(faults)} of {len(rows)} films cannot be used: {listed}")
        images.flush()
        masks.flush()
    index = rows.assign(image_id=_ids(rows["path"]))
    index[["width", "height", "sha256"]] = facts
    columns = ["image_id", "path", "label", "source", "patient", "mask_path", "width", "height", "sha256"]
    with atomic_path(paths.store / "index.csv") as temporary:
        index[columns].to_csv(temporary, index=False)


def _load(folder: Path, path: str, mask_path: str, size: int) -> tuple[Any, Any, Any, str]:
    try:
        data = (folder / path).read_bytes()
        film = read_grey(folder / path, data)
        mask = np.zeros((size, size), np.uint8)
        for name in filter(None, mask_path.split(";")):
            drawn = read_mask(folder / name, film.shape).astype(np.uint8)
            mask |= resize(drawn, (size, size), smooth=False)
    except (OSError, UserError) as error:
        return None, None, None, str(error)
    facts = (film.shape[1], film.shape[0], hashlib.sha256(data).hexdigest())
    return resize(film, (size, size)), mask, facts, ""
