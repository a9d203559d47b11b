"""Output files: checked before the work starts, never replacing files of others, kept if it is interrupted."""

import csv
import io
import os
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from manet_lib.params import UserError
from manet_lib.workflow.records import lock


def is_stream(path: Path) -> bool:
    """Whether a path is a pipe, a device or where standard output goes: it is written to and never replaced."""
    try:
        state = path.stat()
        if os.path.samestat(state, os.fstat(1)):
            return True
    except OSError:
        return False
    mode = state.st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) or stat.S_ISSOCK(mode)


def check_output(path: Path, is_ours: Callable[[Path], bool], option: str = "--output") -> None:
    """Make sure that a file can be written and that nothing is lost by it; makes its folder.

    Args:
        path: of the file.
        is_ours: whether an existing file is of the kind that would be written.
        option: of the command line, named in messages.

    Raises:
        UserError: it is a folder or another file, or cannot be written.
    """
    if path.is_dir():
        raise UserError(f"{path}: is a folder; give {option} the name of a file")
    if path.exists() and path.stat().st_size and not is_ours(path):
        raise UserError(f"{path}: was not written by this command and is left alone; give {option} another name")
    check_folder(path.parent, option)
    if path.exists() and not os.access(path, os.W_OK):
        raise UserError(f"{path}: permission denied; give {option} another name")


def check_folder(folder: Path, option: str = "--output") -> None:
    """Create a folder if it is missing, and check that files can be written in it.

    Raises:
        UserError: they cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):  # permissions say little on network drives, and to root
            pass
    except OSError as error:
        raise UserError(
            f"{folder}: {(error.strerror or str(error)).lower()}; give {option} another name"
        ) from None


def text_of(path: Path) -> str:
    """The name of a file as text that UTF-8 can hold; bytes that are no UTF-8 are written as ``\\xf6``."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


@contextmanager
def growing_csv(path: Path, columns: Sequence[str]) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """A CSV to which rows are added one by one, so that they survive if the command is interrupted.

    The old contents are removed when the first row is written. If the disk is full, the file ends with its last
    whole row.

    Args:
        path: of the file, or a stream.
        columns: of the table.

    Yields:
        A function that appends a row; missing columns stay empty.

    Raises:
        UserError: another process is writing the file, or it cannot be written.
    """
    with path.open("ab", buffering=0) as file:
        if not is_stream(path) and not lock(file):
            raise UserError(f"{path}: another process is writing it; give --output another name")
        rows = 0

        def add(row: Mapping[str, Any]) -> None:
            nonlocal rows
            if rows == 0:
                if not is_stream(path):
                    file.truncate(0)
                _write(file, _line(columns), path, 0)
            _write(file, _line([row.get(name, "") for name in columns]), path, rows)
            rows += 1

        yield add


def _line(cells: Sequence[object]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue().encode()


def _write(file: io.FileIO, line: bytes, path: Path, rows: int) -> None:
    """Write a line whole, or nothing of it."""
    end = None if is_stream(path) else file.seek(0, os.SEEK_END)
    try:
        while line:
            line = line[file.write(line) :]
    except BrokenPipeError:
        raise
    except OSError as error:
        if end is not None:
            file.truncate(end)
        reason = (error.strerror or str(error)).lower()
        raise UserError(
            f"{path}: {reason} after {rows} rows, which are kept; free space, or give --output another name"
        ) from None
