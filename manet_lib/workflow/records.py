"""Atomic writes, hashes and ``done.json``: what makes a step of a run restartable.

A step writes each file under a temporary name and renames it, and writes ``done.json`` last. The file holds
the hashes of the step's inputs and outputs, the parameters that it reads and the code that it ran; while they
hold, the step is done. Nothing else decides that: notebooks, workflow and tables all ask :meth:`Step.fault`.
"""

from __future__ import annotations

import errno
import json
import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd
import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from manet_lib.params import Params, UserError
from manet_lib.paths import RunPaths, done_of, reproduce_command
from manet_lib.workflow.digests import sha256_of
from manet_lib.workflow.parameters import default_of, fingerprint
from manet_lib.workflow.source_code import code_of, edited_since_start

_TEXT_COLUMNS = ("image_id", "path", "label", "source", "patient", "mask_path", "split", "seg_split", "predicted")
_VERSIONS = ("torch", "torchvision", "numpy", "albumentations", "scikit-image")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Name ``path`` in one line if the system refuses to write."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{path.name}: cannot be written: {error.strerror or error}; check space and permissions"
        ) from error


def new_array(path: Path, shape: tuple[int, ...]) -> np.memmap[Any, np.dtype[np.uint8]]:
    """A new uint8 array in a file, memory-mapped, whose space on the disk is reserved.

    Without that, the system would end the process with a bus error when the disk is full.
    """
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    if hasattr(os, "posix_fallocate"):  # not on macOS and Windows
        with path.open("r+b") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):  # others: it cannot be reserved here
                    raise
    return array


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary name beside ``path``, synced to disk and renamed to it when the block ends without an error."""
    stem = os.fsdecode(os.fsencode(path.stem)[:100])  # a name may have 255 bytes in all
    temporary = path.with_name(f".{stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
    finally:
        with suppress(OSError):
            temporary.unlink()


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_csv(path: Path, table: pd.DataFrame, float_format: str | None = None) -> None:
    """Write a table as CSV without its index, atomically."""
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=False, float_format=float_format)


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object from a file, or None where there is none that can be read."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def save_settings(params: Params, paths: RunPaths) -> None:
    """Keep all parameters of a run beside its results, for whoever loads them later."""
    text = yaml.safe_dump(params.model_dump(), sort_keys=False)
    if not paths.settings.is_file() or paths.settings.read_text(encoding="utf-8") != text:
        write_text(paths.settings, text)


def read_table(path: Path) -> pd.DataFrame:
    """Read a CSV of images: names stay text, whatever they look like, empty ones too; a missing number is NaN."""
    numbers = [name for name in pd.read_csv(path, nrows=0).columns if name not in _TEXT_COLUMNS]
    missing = {name: [""] for name in numbers}
    return pd.read_csv(path, dtype=dict.fromkeys(_TEXT_COLUMNS, str), keep_default_na=False, na_values=missing)


Known = dict[Path, str | None]
"""What has been found out of steps, by folder, so that a look at many steps asks each of them once."""


@dataclass(frozen=True)
class Step:
    """One restartable step of a run.

    Attributes:
        name: the step's name in ``parameters.READ_BY``.
        folder: where the step writes, ``done.json`` included.
        params: all parameters of the run; only those that the step reads count.
        inputs: the steps whose files this step reads.
        outputs: the files that this step promises to write.
        modules: whose code makes the result, with all that they import.
        extra: other values that the result depends on, such as model and trial.
        outside: asked for what the result depends on outside of the run, such as a digest of the user's files.
    """

    name: str
    folder: Path
    params: Params
    inputs: Sequence[Step]
    outputs: Sequence[Path]
    modules: tuple[str, ...]
    extra: tuple[tuple[str, Any], ...] = ()
    outside: Callable[[], dict[str, Any]] = dict

    def key(self) -> dict[str, Any]:
        """What the result depends on: parameters, extra and outside values, the hashes of the inputs, the code.

        Raises:
            UserError: a step that this one reads from is not done.
        """
        known: Known = {}
        for step in self.inputs:
            step.record(known)
        return self._key()

    def _key(self) -> dict[str, Any]:
        hashes = {
            f"{step.folder.name}/{name}": value["sha256"]
            for step in self.inputs
            for name, value in (read_done(step.folder) or {"outputs": {}})["outputs"].items()
        }
        parameters = fingerprint(self.params, self.name) | dict(self.extra) | self.outside()
        return {"parameters": json.loads(json.dumps(parameters)), "inputs": hashes, "code": self.code()}

    def code(self) -> dict[str, str]:
        """Digests of the modules that make the result; those of the steps before it are in the inputs' hashes."""
        return code_of(*self.modules, leaving_out=frozenset(self._modules_before()) - {*self.modules})

    def _modules_before(self) -> Iterator[str]:
        for step in self.inputs:
            yield from step.modules
            yield from step._modules_before()

    def fault(self, known: Known | None = None) -> str | None:
        """Why the step is not done, in one line that begins with a step's name; None if it is done.

        Args:
            known: faults already computed, by folder, which this call reads and extends.
        """
        known = {} if known is None else known
        if self.folder not in known:
            known[self.folder] = self._fault(known)
        return known[self.folder]

    def _fault(self, known: Known) -> str | None:
        done, name = read_done(self.folder), self.folder.name
        if done is None:
            there = done_of(self.folder).is_file()
            return f"{name}: done.json is damaged" if there else f"{name}: this step has not been run yet"
        for step in self.inputs:
            before = step.fault(known)
            if before is not None:
                return before
        key = self._key()
        for parameter, value in key["parameters"].items():
            made = done["parameters"].get(parameter, default_of(parameter))
            if made != value:
                return f"{name}: was made with {parameter}: {made!r}, which is {value!r} now"
        changed = sorted(file for file, sha256 in key["inputs"].items() if done["inputs"].get(file) != sha256)
        if changed or done["inputs"].keys() != key["inputs"].keys():
            return f"{name}: was made before {', '.join(changed) or 'its inputs'} changed"
        if self.params.old_code == "rerun" and changed_modules(done, key):
            return f"{name}: was made by an earlier version of {', '.join(changed_modules(done, key))}"
        return self._missing(done)

    def _missing(self, done: dict[str, Any]) -> str | None:
        sizes = {file: value["bytes"] for file, value in done["outputs"].items()}
        for path in self.outputs:
            file = path.relative_to(self.folder).as_posix()
            if not path.is_file() or path.stat().st_size != sizes.get(file):
                return f"{self.folder.name}: {file} is missing or damaged"
        return None

    def is_done(self) -> bool:
        """Whether ``done.json`` matches today's parameters, inputs and code and the outputs are there, whole."""
        return self.fault() is None

    def record(self, known: Known | None = None) -> dict[str, Any]:
        """The contents of ``done.json``.

        Raises:
            UserError: the step, or one before it, is not done; names the command that does it.
        """
        fault = self.fault(known)
        if fault is not None:
            raise UserError(f"{fault}; run `{reproduce_command(self.params.profile)}`")
        done = read_done(self.folder)
        assert done is not None
        return done

    def outdated_code(self) -> list[str]:
        """Modules of which an earlier version made this result; what ``old_code: keep`` leaves standing."""
        done = read_done(self.folder)
        return changed_modules(done, {"code": self.code()}) if done else []

    def run(self, work: Callable[[], None], device: str = "cpu", **facts: Any) -> bool:
        """Do the work unless it is done already; returns whether there was anything to do."""
        if self.is_done():
            return False
        with claimed(self.folder):
            if self.is_done():  # by another process, meanwhile
                return False
            key = self.begin()
            started = time.perf_counter()
            work()
            self.complete(key, device, time.perf_counter() - started, **facts)
        return True

    def begin(self) -> dict[str, Any]:
        """Declare the step undone; returns its key, to be handed to :meth:`complete`.

        Raises:
            UserError: a step that this one reads from is not done, or this process runs code of before an edit.
        """
        key = self.key()
        edited = edited_since_start(key["code"])
        if edited:
            raise UserError(
                f"{self.folder.name}: {', '.join(edited)} changed after it was loaded; restart the kernel"
            )
        done_of(self.folder).unlink(missing_ok=True)
        return key

    def complete(self, key: dict[str, Any], device: str, seconds: float, **facts: Any) -> None:
        """Write ``done.json``: the key, hashes and sizes of the outputs, versions, device, seconds, facts."""
        outputs = {
            path.relative_to(self.folder).as_posix(): {"sha256": sha256_of(path), "bytes": path.stat().st_size}
            for path in self.outputs
        }
        record = {
            "step": self.name,
            **key,
            "outputs": outputs,
            "versions": {"python": platform.python_version()} | {name: version(name) for name in _VERSIONS},
            "device": device,
            **facts,
            "seconds": round(seconds, 2),
        }
        write_json(done_of(self.folder), record)


def changed_modules(theirs: dict[str, Any], ours: dict[str, Any]) -> list[str]:
    """Modules that differ between two keys or records, or are in one of them only."""
    old, new = theirs["code"], ours["code"]
    return sorted(name for name in {*old, *new} if old.get(name) != new.get(name))


def read_done(folder: Path) -> dict[str, Any] | None:
    """The contents of a folder's ``done.json``, or None where there is none, or a damaged one."""
    done = read_json(done_of(folder))
    try:
        _Record.model_validate(done)
    except ValidationError:
        return None
    return done


class _Output(BaseModel):
    sha256: str
    bytes: int


class _Record(BaseModel):
    """What every ``done.json`` holds, besides facts of its step."""

    model_config = ConfigDict(strict=True)

    parameters: dict[str, Any]
    inputs: dict[str, str]
    outputs: dict[str, _Output]
    code: dict[str, str]
    versions: dict[str, str]
    device: str
    seconds: float


@contextmanager
def claimed(folder: Path, wait: bool = False) -> Iterator[None]:
    """Hold a folder for this process: nobody else may write there meanwhile.

    The claim is a locked file beside the folder, which the system lets go when the process ends, however it
    ends. Where the file system knows no locks, nothing is guarded.

    Args:
        folder: which need not exist.
        wait: for another process that holds it.

    Raises:
        UserError: another process holds the folder, which is not waited for; names it.
    """
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        opened = folder.with_name(f".{folder.name}.claim").open("a+", encoding="utf-8")
    with opened as file:
        if not lock(file, wait):
            file.seek(0)
            raise UserError(
                f"{folder.name}: another process is at work there ({file.read().strip() or 'unknown'}); "
                "wait for it, or end it, and call again"
            )
        file.truncate(0)
        file.write(f"{platform.node()}, process {os.getpid()}")
        file.flush()
        yield


def lock(file: IO[Any], wait: bool = False) -> bool:
    """Lock an open file for this process; whether that worked, or the system knows no locks."""
    try:
        import fcntl
    except ImportError:  # Windows
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True
