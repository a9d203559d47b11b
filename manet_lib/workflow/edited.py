"""A run whose parameters somebody edited in a notebook: a folder of its own, which takes over what it can."""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from manet_lib.params import Params
from manet_lib.paths import RunPaths, checkpoints_of, done_of
from manet_lib.workflow.parameters import NO_EFFECT
from manet_lib.workflow.records import Known, claimed
from manet_lib.workflow.steps import all_steps

_LONGEST = 40
_LINKED = (".npy", ".safetensors")
"""Large files. They are replaced as a whole, never written in place, so two runs may share them by hard links."""


def edits(params: Params, file: Params) -> dict[str, Any]:
    """The parameters that differ from those of a file and change a result."""
    theirs = file.model_dump()
    return {
        name: value
        for name, value in params.model_dump().items()
        if name != "profile" and name not in NO_EFFECT and value != theirs[name]
    }


def edited_profile(profile: str, changes: Mapping[str, Any]) -> str:
    """A short name for the run with these changes, always the same, such as ``phantoms-split-patient``."""
    words = [f"{name}-{value}" for name, value in sorted(changes.items())]
    name = "-".join([profile, *words]).replace(".", "-")
    plain = all(re.fullmatch(r"[A-Za-z0-9_.]+", str(value)) for value in changes.values())
    if plain and len(name) <= _LONGEST:  # else other edits could have the same name
        return name
    digest = hashlib.sha256(json.dumps(dict(changes), sort_keys=True).encode()).hexdigest()[:8]
    return f"{profile[: _LONGEST - 16]}-edited-{digest}"


def reuse(params: Params, paths: RunPaths, finished: RunPaths) -> list[str]:
    """Give a run what another has finished with the same parameters, inputs and code, unless it has its own.

    Args:
        params: of the run.
        paths: of the run.
        finished: of the other.

    Returns:
        Names of the folders that were taken over.
    """
    taken = []
    known: Known = {}
    for step, twin in zip(all_steps(params, paths), all_steps(params, finished), strict=True):
        if done_of(step.folder).exists() or twin.fault(known) is not None:
            continue
        with claimed(step.folder, wait=True):
            if not done_of(step.folder).exists():  # another notebook may have taken it meanwhile
                if step.folder == paths.store and finished.phantoms.is_dir():
                    shutil.copytree(finished.phantoms, paths.phantoms, dirs_exist_ok=True, copy_function=_link)
                _take(twin.folder, step.folder)
                taken.append(step.folder.name)
    return taken


def _take(source: Path, target: Path) -> None:
    """Copy a step's folder, its ``done.json`` last."""
    ignored = shutil.ignore_patterns(done_of(source).name, checkpoints_of(source).name)
    shutil.copytree(source, target, ignore=ignored, dirs_exist_ok=True, copy_function=_copy)
    shutil.copy2(done_of(source), done_of(target))


def _copy(source: str, target: str) -> None:
    if source.endswith(_LINKED):
        _link(source, target)
    else:
        shutil.copy2(source, target)


def _link(source: str, target: str) -> None:
    Path(target).unlink(missing_ok=True)  # of a call that was interrupted
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copy2(source, target)
