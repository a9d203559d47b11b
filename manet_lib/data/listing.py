"""Reading the CSV that lists a user's images, as spreadsheets and people write it."""

import codecs
import csv
import io
import posixpath
import re
import unicodedata
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path

import pandas as pd

PATHS = ("path", "mask_path")

SEPARATORS = ",;\t|"

_NEVER_MISSING = ("path", "label")
"""Columns in which a word such as `None` is a name; elsewhere it says that there is nothing."""

_NOTHING = [
    *("nan", "NaN", "-nan", "-NaN", "NA", "N/A", "n/a", "<NA>", "#N/A", "#N/A N/A", "#NA", "NULL", "null", "None"),
    *("1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN"),
]
"""What tables write where there is nothing; pandas reads them so, too."""

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_listing(path: Path, folder: Path | None = None) -> pd.DataFrame:
    """Read a CSV of images with comma, semicolon, tab or bar between its columns.

    It may be in any Unicode encoding, in Windows-1252 or in Latin-1. Blanks around names and cells, empty lines, a
    separator at the end of every line and Excel's first line ``sep=;`` are passed over. Words such as ``nan``,
    ``NULL`` or ``N/A`` count as empty, except in the columns path and label. Paths have forward slashes, and one
    name however they are written (``./a.png`` is ``a.png``).

    Args:
        path: of the CSV.
        folder: of the images, so that a name is found however its accents are composed.

    Returns:
        All cells as text, "" where there is none; the index is the line in the file.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no such table, or names a column twice; in one line.
    """
    text = _decoded(path.read_bytes())
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise ValueError(f"line {line} holds a NUL character; save the table as UTF-8")
    lines = _lines(text)
    if not lines:
        raise ValueError("it is empty")
    rows = [row for _, row in lines]
    names = [name.strip() for name in rows[0]]
    width = max((number for number, name in enumerate(names, start=1) if name), default=0)
    if not width:
        raise ValueError("its first line names no column")
    twice = sorted({name for name in names[:width] if names.count(name) > 1})
    if twice:
        raise ValueError(f"it has two columns named {', '.join(map(repr, twice))}; rename or remove one")
    for line, row in lines[1:]:
        if any(cell.strip() for cell in row[width:]):
            raise ValueError(
                f"line {line} has {len(row)} cells, but there are {width} columns; "
                "quote cells that hold the separator"
            )
    cells = [[cell.strip() for cell in row[:width]] + [""] * (width - len(row)) for row in rows[1:]]
    index = pd.Index([line for line, _ in lines[1:]], name="line")
    table = pd.DataFrame(cells, index=index, columns=names[:width], dtype=str)
    for column in table.columns.difference(list(_NEVER_MISSING)):
        table[column] = table[column].mask(table[column].isin(_NOTHING), "")
    spellings = cache(_spellings)
    for column in table.columns.intersection(list(PATHS)):
        split = ([name.strip().replace("\\", "/") for name in cell.split(";")] for cell in table[column])
        named = ([posixpath.normpath(name) for name in names if name] for names in split)
        table[column] = [";".join(_as_on_disk(name, folder, spellings) for name in names) for names in named]
    return table


def _decoded(data: bytes) -> str:
    """Text by its byte order mark, else as UTF-8, UTF-16, Windows-1252 or Latin-1; lines end with a newline."""
    encoding = next((encoding for mark, encoding in _MARKS if data.startswith(mark)), "")
    if not encoding:
        wide = (name for name in ("utf-16-le", "utf-16-be") if "path" in data.decode(name, "replace")[:1000])
        encoding = next(wide, "utf-8")
    for name in (encoding, "cp1252", "latin-1"):  # the last one decodes everything
        with suppress(UnicodeDecodeError):
            text = data.decode(name)
            break
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _lines(text: str) -> list[tuple[int, list[str]]]:
    """Number and cells of each line that holds something."""
    stated = re.match(r'\ufeff?"?sep=(.)"?[^\S\n]*\n', text, flags=re.IGNORECASE)
    body, skipped = (text[stated.end() :], 1) if stated else (text, 0)
    header = next((line for line in body.splitlines() if line.strip()), "")
    separator = stated[1] if stated else _separator(header)
    reader = csv.reader(io.StringIO(body, newline=""), delimiter=separator, strict=True)
    try:
        return [(reader.line_num + skipped, row) for row in reader if any(map(str.strip, row))]
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num + skipped}: {error}") from None


def _separator(header: str) -> str:
    """The separator that gives the columns path and label, or else the commonest."""
    for separator in SEPARATORS:
        if {"path", "label"} <= {cell.strip(' "') for cell in header.split(separator)}:
            return separator
    return max(SEPARATORS, key=header.count)


def _as_on_disk(name: str, folder: Path | None, spellings: Callable[[Path], dict[str, str]]) -> str:
    """A name as the file system spells it: systems compose accents in different ways."""
    if folder is None or name.isascii() or (folder / name).exists():
        return name
    place, parts = folder, []
    for part in name.split("/"):
        own = spellings(place).get(unicodedata.normalize("NFC", part), part)
        parts.append(own)
        place = place / own
    return "/".join(parts)


def _spellings(folder: Path) -> dict[str, str]:
    """Names in a folder by their composed form; the first of several, in order."""
    names = sorted((one.name for one in folder.iterdir()), reverse=True) if folder.is_dir() else []
    return {unicodedata.normalize("NFC", name): name for name in names}
