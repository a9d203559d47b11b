"""Reading the CSV that lists a user's films, as spreadsheets and people write it."""

from __future__ import annotations

import csv
import io
import posixpath
from pathlib import Path

import pandas as pd

PATHS = ("path", "mask_path")


def read_listing(path: Path) -> pd.DataFrame:
    """Read a CSV of films with comma, semicolon or tab between its columns, in UTF-8 or else in Latin-1.

    Blanks around names and cells, empty lines and a separator at the end of every line are passed over; paths have
    forward slashes, and one name however they are written (``./a.png`` is ``a.png``).

    Returns:
        All cells as text, "" where there is none; the index is the line in the file.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no such table, or names a column twice; in one line.
    """
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    header = next((line for line in text.splitlines() if line.strip()), "")
    separator = max(",;\t", key=header.count)
    reader = csv.reader(io.StringIO(text), delimiter=separator, strict=True)
    try:
        lines = [(reader.line_num, row) for row in reader if any(map(str.strip, row))]
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num}: {error}") from None
    if not lines:
        raise ValueError("it is empty")
    rows = [row for _, row in lines]
    names = [name.strip() for name in rows[0]]
    width = max(number for number, name in enumerate(names, start=1) if name)
    twice = sorted({name for name in names[:width] if names.count(name) > 1})
    if twice:
        raise ValueError(f"it has two columns named {', '.join(map(repr, twice))}; rename or remove one")
    for line, row in lines[1:]:
        if any(cell.strip() for cell in row[width:]):
            raise ValueError(f"line {line} has {len(row)} cells, but there are {width} columns")
    cells = [[cell.strip() for cell in row[:width]] + [""] * (width - len(row)) for row in rows[1:]]
    index = pd.Index([line for line, _ in lines[1:]], name="line")
    table = pd.DataFrame(cells, index=index, columns=names[:width], dtype=str)
    for column in table.columns.intersection(list(PATHS)):
        table[column] = [_slashes(cell) for cell in table[column]]
    return table


def _slashes(cell: str) -> str:
    names = (name.strip().replace("\\", "/") for name in cell.split(";"))
    return ";".join(posixpath.normpath(name) for name in names if name)
