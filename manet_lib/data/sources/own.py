"""A user's own images: any folder with a CSV that names them."""

import difflib
from pathlib import Path

import pandas as pd

from manet_lib.data.listing import read_listing
from manet_lib.data.seeds import stable_hash
from manet_lib.data.sources.base import ROW_COLUMNS
from manet_lib.params import UserError, some_of


def read_rows(folder: Path, csv_name: str, classes: list[str], max_per_class: int, seed: int) -> pd.DataFrame:
    """Read a CSV with columns path and label, and optionally mask_path, patient, source and original_split.

    Paths are relative to the folder. An image without a patient is its own patient; other columns are ignored.

    Args:
        folder: holds the CSV and the images.
        csv_name: the CSV's name inside the folder.
        classes: the labels that may occur; each must occur.
        max_per_class: keep at most so many images of each class, sampled at random; 0 keeps all.
        seed: of that choice.

    Returns:
        Columns of ``base.ROW_COLUMNS``; strings, "" where there is none; in the CSV's order. Whether the files
        are there is found out when they are read.

    Raises:
        UserError: one line, naming the file and every row or file at fault.
    """
    if not folder.is_dir():
        raise UserError(f"data_dir: {folder.name}: no such folder; set data_dir, or MANET_CXR_DIR for the sample")
    table = listing_of(folder, csv_name)
    for column in ("path", "label"):
        if column not in table:
            near = difflib.get_close_matches(column, list(table.columns), n=1)
            hint = f"rename {near[0]!r}?" if near else "rename one"
            raise UserError(f"{csv_name}: has no column {column!r}, only {', '.join(table.columns)}; {hint}")
    for column in ROW_COLUMNS[2:]:
        if column not in table:
            table[column] = ""
    table["patient"] = table["patient"].where(table["patient"] != "", table["path"])
    _check(table, csv_name, classes)
    if max_per_class:
        table = _subset(table, max_per_class, seed)
    return table[list(ROW_COLUMNS)].reset_index(drop=True)


def listing_of(folder: Path, csv_name: str) -> pd.DataFrame:
    """The table of :func:`manet_lib.data.listing.read_listing`, for the parameter ``data_csv``.

    Raises:
        UserError: it is missing or cannot be used; one line.
    """
    try:
        return read_listing(folder / csv_name, folder)
    except FileNotFoundError:
        raise UserError(f"data_csv: {csv_name}: no such file in {folder.name}/; set data_csv") from None
    except (OSError, ValueError) as error:
        raise UserError(f"data_csv: {csv_name}: cannot be used: {' '.join(str(error).split())}") from None


def _check(table: pd.DataFrame, csv_name: str, classes: list[str]) -> None:
    unnamed = [str(line) for line in table.index[table["path"] == ""]]
    if unnamed:
        raise UserError(
            f"{csv_name}: no path in {_lines(unnamed)}; write the image's path there, or remove the line"
        )
    unknown = sorted(set(table["label"]) - set(classes))
    if unknown:
        rows = [str(line) for line in table.index[~table["label"].isin(classes)]]
        raise UserError(
            f"{csv_name}: unknown label {', '.join(map(repr, unknown))} in {_lines(rows)}; "
            f"expected one of classes: {', '.join(classes)}"
        )
    missing = [name for name in classes if name not in set(table["label"])]
    if missing:
        raise UserError(f"{csv_name}: no image with label {', '.join(map(repr, missing))}; drop it from classes")
    twice = table["path"][table["path"].duplicated()].unique()
    if len(twice):
        raise UserError(f"{csv_name}: listed twice: {', '.join(twice)}; keep one line of each")


def _lines(rows: list[str]) -> str:
    return f"{'line' if len(rows) == 1 else 'lines'} {some_of(rows)}"


def _subset(table: pd.DataFrame, count: int, seed: int) -> pd.DataFrame:
    rank = table["path"].map(lambda name: stable_hash("subset", seed, name))
    ordered = table.assign(_rank=rank).sort_values("_rank")
    kept = ordered.groupby("label", sort=False).head(count)
    return table.loc[sorted(kept.index)]
