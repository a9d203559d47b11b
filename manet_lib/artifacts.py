"""Atomic writes, hashes and ``done.json``: what makes a step of a run restartable.

A step writes each file under a temporary name and renames it, and writes ``done.json`` last. The file holds
the hashes of the step's inputs and outputs and the parameters that it reads; while they hold, the step is done.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from manet_lib.params import Params, UserError, fingerprint
from manet_lib.paths import RunPaths, done_of

_TEXT_COLUMNS = ("image_id", "path", "label", "source", "patient", "mask_path", "split", "seg_split", "predicted")
_VERSIONS = ("torch", "torchvision", "numpy", "albumentations", "scikit-image")


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary name beside ``path``, synced to disk and renamed to it when the block ends without an error."""
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise UserError(f"{path.name}: cannot be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def save_settings(params: Params, paths: RunPaths) -> None:
    """Keep all parameters of a run beside its results, for whoever loads them later."""
    text = yaml.safe_dump(params.model_dump(), sort_keys=False)
    if not paths.settings.is_file() or paths.settings.read_text(encoding="utf-8") != text:
        write_text(paths.settings, text)


def read_table(path: Path) -> pd.DataFrame:
    """Read a CSV of films; names stay text, whatever they look like, and an empty name stays empty."""
    return pd.read_csv(path, dtype=dict.fromkeys(_TEXT_COLUMNS, str), keep_default_na=False)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def stable_hash(*parts: object) -> int:
    """A 32-bit unsigned integer that depends on the parts alone, equal in every process and Python version."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "little")


@dataclass(frozen=True)
class Step:
    """One restartable step of a run.

    Attributes:
        name: the step's name in ``params.READ_BY``.
        folder: where the step writes, ``done.json`` included.
        params: all parameters of the run; only those that the step reads count.
        inputs: folders of the steps whose files this step reads.
        outputs: the files that this step promises to write.
        extra: other values that the result depends on, such as model and trial.
    """

    name: str
    folder: Path
    params: Params
    inputs: Sequence[Path]
    outputs: Sequence[Path]
    extra: tuple[tuple[str, Any], ...] = ()

    def key(self) -> dict[str, Any]:
        """What the result depends on: parameters, extra values and the hashes of the inputs.

        Raises:
            UserError: a step that this one reads from has not been run, or not with these parameters.
        """
        inputs: dict[str, str] = {}
        for folder in self.inputs:
            done = current(folder, self.params)
            inputs |= {f"{folder.name}/{name}": value["sha256"] for name, value in done["outputs"].items()}
        parameters = fingerprint(self.params, self.name) | dict(self.extra)
        return {"parameters": json.loads(json.dumps(parameters)), "inputs": inputs}

    def is_done(self) -> bool:
        """Whether ``done.json`` matches today's parameters and inputs and the outputs are there, whole."""
        done = read_done(self.folder)
        if done is None:
            return False
        try:
            key = self.key()
        except UserError:  # a step before this one is to be done again
            return False
        if {name: done.get(name) for name in ("parameters", "inputs")} != key:
            return False
        sizes = {name: value["bytes"] for name, value in done["outputs"].items()}
        return all(
            path.is_file() and path.stat().st_size == sizes.get(path.relative_to(self.folder).as_posix())
            for path in self.outputs
        )

    def run(self, work: Callable[[], None], device: str = "cpu") -> bool:
        """Do the work unless it is done already; returns whether there was anything to do."""
        if self.is_done():
            return False
        key = self.begin()
        started = time.perf_counter()
        work()
        self.complete(key, device, time.perf_counter() - started)
        return True

    def begin(self) -> dict[str, Any]:
        """Declare the step undone; returns its key, to be handed to :meth:`complete`."""
        key = self.key()
        done_of(self.folder).unlink(missing_ok=True)
        return key

    def complete(self, key: dict[str, Any], device: str, seconds: float) -> None:
        """Write ``done.json``: the key, hashes and sizes of the outputs, versions, device and seconds."""
        outputs = {
            path.relative_to(self.folder).as_posix(): {
                "sha256": sha256_of(path),
                "bytes": path.stat().st_size,
            }
            for path in self.outputs
        }
        record = {
            "step": self.name,
            **key,
            "outputs": outputs,
            "versions": {"python": platform.python_version()} | {name: version(name) for name in _VERSIONS},
            "device": device,
            "seconds": round(seconds, 2),
        }
        write_json(done_of(self.folder), record)


def read_done(folder: Path) -> dict[str, Any] | None:
    """The contents of a folder's ``done.json``, or None where there is none that can be read."""
    try:
        done = json.loads(done_of(folder).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return done if isinstance(done, dict) else None


def current(folder: Path, params: Params) -> dict[str, Any]:
    """The record of a finished step, checked against today's parameters, and so for the steps before it.

    Raises:
        UserError: one of these steps has not been run, or with other parameters, or before one of its inputs.
    """
    done = read_done(folder)
    if done is None:
        raise UserError(f"{folder.name}: this step has not been run yet; run `make reproduce`")
    wanted = json.loads(json.dumps(fingerprint(params, done["step"])))
    for name, value in wanted.items():
        if done["parameters"].get(name) != value:
            made = f"{name}: {done['parameters'].get(name)!r}"
            raise UserError(f"{folder.name}: was made with {made}, which is {value!r} now; run `make reproduce`")
    for name in dict.fromkeys(path.partition("/")[0] for path in done["inputs"]):
        near = folder.parent / name  # trainings of stage 2 are one folder deeper than the other steps
        before = current(near if near.is_dir() else folder.parent.parent / name, params)["outputs"]
        if any(done["inputs"].get(f"{name}/{file}") != value["sha256"] for file, value in before.items()):
            raise UserError(f"{folder.name}: was made before {name} changed; run `make reproduce`")
    return done
