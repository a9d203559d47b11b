"""The image store: images and annotated masks decoded and resized once, then memory-mapped."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from manet_lib.data.images import read_grey, read_mask
from manet_lib.data.scaling import resize
from manet_lib.data.sources import fetch, find_rows, image_folder
from manet_lib.params import Params, UserError, some_of
from manet_lib.paths import RunPaths
from manet_lib.workflow.digests import stamp
from manet_lib.workflow.parameters import view
from manet_lib.workflow.progress import bar
from manet_lib.workflow.records import new_array, read_table, write_csv, write_text, writing
from manet_lib.workflow.steps import store_step

_CHUNK = 64
"""Images that are decoded, written and recorded together; an interrupted build reads at most this many again."""

MASK_AT_MOST = 0.9
"""Share of its image that an annotated lung mask may cover."""

_FACTS = ("row", "width", "height", "sha256", "stamp")


def _ids(paths: Iterable[str]) -> list[str]:
    """File stems where they are unique, else whole paths, numbered if even these coincide without slashes."""
    paths = list(paths)
    for names in ([Path(path).stem for path in paths], [path.replace("/", "_") for path in paths]):
        if len(set(names)) == len(names):
            return names
    return [f"{number}_{Path(path).stem}" for number, path in enumerate(paths)]


@dataclass(frozen=True)
class Store:
    """Images and masks of a run.

    Attributes:
        images: uint8 (N, S, S), memory-mapped.
        masks: annotated lung masks, uint8 0 or 1, (N, S, S), memory-mapped; zeros where there is none.
        index: one row per image, in the same order: image_id, path, label, source, patient, mask_path, width,
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


SHOWN = 2
"""In figures, images have so many times the pixels along a side that the networks see."""


def shown_images(params: Params, paths: RunPaths, images: pd.DataFrame) -> NDArray[np.uint8]:
    """Images as figures show them: read again from their files, at ``SHOWN`` times the size of the networks.

    Args:
        params: of the run.
        paths: of the run.
        images: rows of the manifest, whose index is the row in the store.

    Returns:
        uint8 (N, SHOWN * S, SHOWN * S); where a file cannot be read any more, the enlarged image of the store.
    """
    folder, side = image_folder(params, paths.phantoms), SHOWN * params.image_size
    stored, shown = Store.open(paths.store).images, []
    for row, path in images["path"].items():
        try:
            image = read_grey(folder / path)
        except (OSError, UserError):
            image = stored[row]
        shown.append(resize(image, (side, side)))
    return np.stack(shown)


def build_store(params: Params, paths: RunPaths) -> bool:
    """Find the images of a run and decode, check and resize each once, on all cores.

    A build that is interrupted goes on where it was. Memory does not grow with the number of images.

    Args:
        params: of the run.
        paths: of the run.

    Returns:
        Whether there was anything to do.

    Raises:
        UserError: one line that lists every file that cannot be used.
    """
    step = store_step(params, paths)
    if not step.is_done():
        fetch(params)  # before the step looks at what is there
    return step.run(lambda: _build(view(params, "store"), paths, step.code()))


def _build(params: Params, paths: RunPaths, code: dict[str, str]) -> None:
    folder, rows = find_rows(params, paths.phantoms)
    dark = params.mask_lungs == "dark"
    work = _Work.open(paths.store / ".part", rows, params.image_size, dark, code)
    faults = work.fill(folder, rows, params.image_size, dark)
    if faults:
        files = "file" if len(faults) == 1 else "files"
        raise UserError(f"{len(faults)} {files} cannot be used: {_grouped(faults)}")
    if params.mask_lungs == "check":
        _refuse_inverted(work.masks, (rows["mask_path"] != "").to_numpy())
    facts = work.facts(folder, rows)
    changed = rows["path"][~rows.index.isin(facts.index)]
    if len(changed):
        raise UserError(f"{some_of(changed)}: changed while being read; call again")
    index = rows.assign(image_id=_ids(rows["path"])).join(facts)
    columns = ["image_id", "path", "label", "source", "patient", "mask_path", "width", "height", "sha256"]
    for name in ("images.npy", "masks.npy"):
        (work.folder / name).replace(paths.store / name)
    write_csv(paths.store / "index.csv", index[columns])
    shutil.rmtree(work.folder)


class _Image(NamedTuple):
    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    width: int
    height: int
    sha256: str


@dataclass(frozen=True)
class _Work:
    """A store that is being filled: both arrays, and ``facts.csv`` with a line for each image that is in them."""

    folder: Path
    images: NDArray[np.uint8]
    masks: NDArray[np.uint8]

    @classmethod
    def open(cls, folder: Path, rows: pd.DataFrame, size: int, dark: bool, code: dict[str, str]) -> _Work:
        """Go on with the work in a folder if images, settings and code are the same, or begin anew."""
        listed = rows[["path", "mask_path"]].to_csv(index=False)
        key = hashlib.sha256(f"{size} {dark} {sorted(code.items())}\n{listed}".encode()).hexdigest()
        shape, files = (len(rows), size, size), [folder / "images.npy", folder / "masks.npy"]
        same = folder / "key"
        if not (same.is_file() and same.read_text() == key and all(file.is_file() for file in files)):
            shutil.rmtree(folder, ignore_errors=True)
            with writing(folder.parent):
                folder.mkdir(parents=True)
                for file in files:
                    new_array(file, shape)
            (folder / "facts.csv").write_text(",".join(_FACTS) + "\n")
            write_text(same, key)
        record = folder / "facts.csv"
        record.write_text(record.read_text().rpartition("\n")[0] + "\n")  # without a line that was cut off
        return cls(folder, *(np.load(file, mmap_mode="r+") for file in files))

    def facts(self, folder: Path, rows: pd.DataFrame) -> pd.DataFrame:
        """What is known of the images that are in the arrays and have not changed on disk since, by row."""
        lines = (self.folder / "facts.csv").read_text().split("\n")
        whole = [line.split(",", len(_FACTS) - 1) for line in lines[1:-1]]
        table = pd.DataFrame(whole, columns=list(_FACTS)).astype({"row": int, "width": int, "height": int})
        table = table.drop_duplicates("row", keep="last").set_index("row").sort_index()
        files = rows["path"] + ";" + rows["mask_path"]
        stamps = [stamp(folder, files[row]) for row in table.index]
        return table[table["stamp"] == stamps]

    def fill(self, folder: Path, rows: pd.DataFrame, size: int, dark: bool) -> list[str]:
        """Read the images that are missing; returns what is wrong with those that cannot be read."""
        known = set(self.facts(folder, rows).index)
        todo = [row for row in range(len(rows)) if row not in known]
        faults: list[str] = []
        with ThreadPoolExecutor(os.cpu_count()) as pool, (self.folder / "facts.csv").open("a") as record:
            for part in _chunks(todo):
                images_of, masks_of = rows["path"][part], rows["mask_path"][part]
                stamps = [stamp(folder, names) for names in images_of + ";" + masks_of]
                images = list(pool.map(_load, repeat(folder), images_of, masks_of, repeat(size), repeat(dark)))
                for row, image in zip(part, images, strict=True):
                    if isinstance(image, list):
                        faults += image
                    else:
                        self.images[row], self.masks[row] = image.image, image.mask
                self.images.flush()  # type: ignore[attr-defined]
                self.masks.flush()  # type: ignore[attr-defined]
                for row, image, state in zip(part, images, stamps, strict=True):
                    if not isinstance(image, list):
                        record.write(f"{row},{image.width},{image.height},{image.sha256},{state}\n")
                record.flush()
        return faults


def _grouped(faults: list[str]) -> str:
    """Every fault, ``name: cause``, with the names of one cause together."""
    names: dict[str, list[str]] = {}
    for fault in faults:
        name, _, cause = fault.partition(": ")
        names.setdefault(cause, []).append(name)
    return "; ".join(f"{', '.join(group)}: {cause}" for cause, group in names.items())


def _chunks(rows: list[int]) -> Iterator[list[int]]:
    with bar(None, len(rows), "reading images", unit="images") as shown:
        for start in range(0, len(rows), _CHUNK):
            yield rows[start : start + _CHUNK]
            shown.update(min(_CHUNK, len(rows) - start))


def _refuse_inverted(masks: NDArray[np.uint8], drawn: NDArray[np.bool_]) -> None:
    """Refuse masks that cover the border or over half of their image in most cases: black lungs on white.

    Raises:
        UserError: names how many, and the way out.
    """
    edges = ((masks[:, 0], masks[:, -1]), (masks[:, :, 0], masks[:, :, -1]))
    border = np.mean([side.mean(axis=1) for pair in edges for side in pair], axis=0)
    wide = (border > 0.5) | (masks.mean(axis=(1, 2)) > 0.5)
    count = int((wide & drawn).sum())
    if 2 * count > drawn.sum():
        raise UserError(
            f"mask_path: {count} of {int(drawn.sum())} masks cover the border or over half of their image, as if "
            "lungs were black in them; set mask_lungs: dark, or bright if they are right"
        )


def _with_path(path: str, error: UserError) -> str:
    """What is wrong with a file, which is named by its path: several folders may hold files of the same name."""
    return f"{path}: {str(error).removeprefix(f'{Path(path).name}: ')}"


def _load(folder: Path, path: str, mask_path: str, size: int, dark: bool) -> _Image | list[str]:
    """An image and its merged masks at the size of the store, or everything that is wrong with their files."""
    faults = []
    try:
        data = (folder / path).read_bytes()
        image = read_grey(folder / path, data)
    except OSError as error:
        faults.append(f"{path}: {(error.strerror or str(error)).lower()}")
    except UserError as error:
        faults.append(_with_path(path, error))
    mask = np.zeros((size, size), np.uint8)
    for name in filter(None, mask_path.split(";")):
        try:
            drawn = read_mask(folder / name, None if faults else image.shape) ^ dark
            mask |= resize(drawn.astype(np.uint8), (size, size), smooth=False)
        except UserError as error:
            faults.append(_with_path(name, error))
    if mask_path and not faults:
        share = float(mask.mean())
        if share == 0:
            faults.append(f"{mask_path}: the annotated mask is empty; redraw it, or leave its mask_path empty")
        elif share > MASK_AT_MOST:
            faults.append(f"{mask_path}: the annotated mask covers over nine tenths of its image; is it inverted?")
    if faults:
        return faults
    height, width = image.shape
    return _Image(resize(image, (size, size)), mask, width, height, hashlib.sha256(data).hexdigest())
