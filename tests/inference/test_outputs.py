"""What a command writes: nothing of others is lost, and what was written stays, whatever ends the command."""

from __future__ import annotations

import csv
import io
import os
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manet_lib.inference.outputs import check_folder, check_output, growing_csv, text_of
from manet_lib.params import UserError

COLUMNS = ["image", "label"]


def is_ours(path: Path) -> bool:
    return path.read_text().startswith("image,")


def rows_of(path: Path) -> list[list[str]]:
    return list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"))))


def test_other_files_and_folders_are_refused_and_own_ones_are_not(tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text("path,label\n")
    (tmp_path / "own.csv").write_text("image,label\n")
    (tmp_path / "linked.csv").symlink_to(tmp_path / "other.csv")
    (tmp_path / "folder").mkdir()
    for name in ("other.csv", "linked.csv", "folder", "other.csv/below"):
        with pytest.raises(UserError):
            check_output(tmp_path / name, is_ours)
    for name in ("own.csv", "new.csv", "new/folder/new.csv"):
        check_output(tmp_path / name, is_ours)
    assert (tmp_path / "other.csv").read_text() == "path,label\n"
    with pytest.raises(UserError, match="--pictures"):
        check_folder(tmp_path / "own.csv", "--pictures")


@given(st.lists(st.tuples(st.text(max_size=8), st.text(max_size=8)), max_size=6), st.integers(0, 6), st.booleans())
def test_rows_written_before_an_end_are_there(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], stop: int, there: bool
) -> None:
    path = tmp_path_factory.mktemp("csv") / "out.csv"
    rows = [tuple(cell.replace("\r", "").replace("\0", "") for cell in row) for row in rows]  # type: ignore[misc]
    rows = [tuple(cell.encode("utf-8", "ignore").decode() for cell in row) for row in rows]  # type: ignore[misc]
    if there:
        path.write_text("image,label\nold,old\n")
    with suppress(KeyboardInterrupt), growing_csv(path, COLUMNS) as add:
        for row in rows[:stop]:
            add(dict(zip(COLUMNS, row, strict=True)))
        raise KeyboardInterrupt
    written = rows[:stop]
    expected = [COLUMNS, *map(list, written)] if written else ([COLUMNS, ["old", "old"]] if there else [])
    assert rows_of(path) == expected


def test_a_full_disk_leaves_whole_rows(tmp_path: Path) -> None:
    """A process may write files of 1000 bytes: what the system writes of the last row is taken back."""
    code = """
import resource, signal
from pathlib import Path
from manet_lib.inference.outputs import growing_csv
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
with growing_csv(Path("out.csv"), ["image", "label"]) as add:
    for number in range(1000):
        add({"image": f"image{number:04d}.png", "label": "x"})
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert "UserError: out.csv: file too large after 61 rows, which are kept" in done.stderr
    rows = rows_of(tmp_path / "out.csv")
    assert rows[0] == COLUMNS
    assert rows[1:] == [[f"image{number:04d}.png", "x"] for number in range(61)]


def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    with growing_csv(pipe, COLUMNS) as add:
        add({"image": "a"})
    reader.join(10)
    assert read == ["image,label\na,\n"]


def test_names_that_are_not_utf8_are_written_out() -> None:
    assert text_of(Path(os.fsdecode(b"r\xf6ntgen.png"))) == "r\\xf6ntgen.png"
    assert text_of(Path("röntgen.png")) == "röntgen.png"


def test_two_processes_do_not_write_the_same_file(tmp_path: Path) -> None:
    with growing_csv(tmp_path / "out.csv", COLUMNS) as add:
        add({"image": "one"})
        with (
            pytest.raises(UserError, match="another process is writing it"),
            growing_csv(tmp_path / "out.csv", COLUMNS),
        ):
            pass
        add({"image": "two"})
    assert rows_of(tmp_path / "out.csv") == [COLUMNS, ["one", ""], ["two", ""]]


def test_an_empty_file_is_nobodys(tmp_path: Path) -> None:
    (tmp_path / "empty.csv").touch()
    check_output(tmp_path / "empty.csv", is_ours)


def test_where_standard_output_goes_is_added_to(tmp_path: Path) -> None:
    code = """
from pathlib import Path
from manet_lib.inference.outputs import growing_csv, is_stream
assert is_stream(Path("/dev/stdout"))
with growing_csv(Path("/dev/stdout"), ["image", "label"]) as add:
    add({"image": "a"})
"""
    (tmp_path / "all.csv").write_text("before\n")
    with (tmp_path / "all.csv").open("a") as file:
        subprocess.run([sys.executable, "-c", code], stdout=file, check=True)
    assert (tmp_path / "all.csv").read_text() == "before\nimage,label\na,\n"
