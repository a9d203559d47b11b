"""The paper's data set, put together from its public sources (section 2.1)."""

import os
from pathlib import Path

import pandas as pd

from manet_lib.data.seeds import stable_hash
from manet_lib.data.sources.base import Archive, Source
from manet_lib.data.sources.cohen import SOURCE as COHEN
from manet_lib.data.sources.download import fetch, unpack
from manet_lib.data.sources.kermany import SOURCE as KERMANY
from manet_lib.data.sources.montgomery import SOURCE as MONTGOMERY
from manet_lib.data.sources.shenzhen import SOURCE as SHENZHEN
from manet_lib.params import UserError

SOURCES = (MONTGOMERY, SHENZHEN, COHEN, KERMANY)
KERMANY_NORMALS = 1434
"""How many of Kermany's 1583 normals make up Table 1's 1840 with the 406 of Montgomery and Shenzhen."""


def gather(data: Path, mirror: str = "", download: bool = True) -> pd.DataFrame:
    """Rows of all sources, fetched and unpacked below ``data`` where they are not there yet.

    Args:
        data: a folder with the unpacked collections or their archives, or an empty one.
        mirror: see :func:`manet_lib.data.sources.download.fetch`.
        download: fetch what is missing; else say what to fetch by hand.

    Returns:
        Columns of ``base.ROW_COLUMNS``, paths relative to ``data``.

    Raises:
        UserError: something is missing or damaged.
    """
    parts = []
    absent = {source.name: _to_fetch(source, data) for source in SOURCES if _unpacked(source, data) is None}
    lacking = [name for name, archives in absent.items() if archives]
    if lacking and not download:
        wanted = "; ".join(f"{archive.name} from {archive.url}" for name in lacking for archive in absent[name])
        raise UserError(f"data_dir: {data.name}/ lacks {', '.join(lacking)}; put into it {wanted}")
    for source in SOURCES:
        folder = _unpacked(source, data) or _obtain(source, data, mirror)
        rows = source.read(folder)
        inside = folder.relative_to(data)
        for column in ("path", "mask_path"):
            rows[column] = [
                ";".join(Path(os.path.normpath(inside / name)).as_posix() for name in cell.split(";") if name)
                for cell in rows[column]
            ]
        parts.append(rows)
    return pd.concat(parts, ignore_index=True)


def _place(source: Source, archive: Archive, data: Path) -> Path:
    return data / source.name / Path(archive.name).stem


def _unpacked(source: Source, data: Path) -> Path | None:
    """The folder of a source, or None if it is not there or an earlier call unpacked only some of its archives."""
    there = [_place(source, archive, data).is_dir() for archive in source.archives]
    folder = source.folder(data)
    return None if folder and any(there) and not all(there) and not source.complete(folder) else folder


def _to_fetch(source: Source, data: Path) -> list[Archive]:
    """Archives of a source that are neither in ``data`` nor unpacked there."""
    return [
        archive
        for archive in source.archives
        if not (data / archive.name).is_file() and not _place(source, archive, data).is_dir()
    ]


def _obtain(source: Source, data: Path, mirror: str) -> Path:
    for archive in source.archives:
        place = _place(source, archive, data)
        if not place.is_dir():
            unpack(fetch(archive, data, mirror=mirror), place)
    folder = source.folder(data / source.name)
    if folder is None:
        raise UserError(f"{source.name}: the archives do not hold {source.marker}; see {source.home}")
    return folder


def compose(rows: pd.DataFrame, composition: str, seed: int) -> pd.DataFrame:
    """Choose the images of the data set.

    ``paper`` builds Table 1's classes: tb and bp all, vp without Kermany's test folder, all normals of Montgomery
    and Shenzhen and a seeded choice of Kermany's, all frontal COVID-19. ``all`` takes everything.

    Args:
        rows: from :func:`gather`.
        composition: `paper` or `all`.
        seed: of the choice of normals; the paper does not state its rule.

    Raises:
        UserError: the rows are not those of the paper's sources.
    """
    if composition == "all":
        return rows.reset_index(drop=True)
    kermany = rows["source"] == "kermany"
    if not (rows.loc[kermany, "original_split"] == "test").any():
        raise UserError(
            "composition: paper needs the images of Kermany with their original_split; set composition: all"
        )
    left_out = kermany & (rows["label"] == "vp") & (rows["original_split"] == "test")
    normals = rows[kermany & (rows["label"] == "normal")]
    rank = normals["path"].map(lambda path: stable_hash("normals", seed, Path(path).name))
    surplus = rank.sort_values().index[KERMANY_NORMALS:]
    return rows[~left_out].drop(index=surplus).reset_index(drop=True)
