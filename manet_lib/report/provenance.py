"""Where each of the paper's figures and tables comes from in a run: ``provenance.json`` beside them."""

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

from manet_lib.params import Params
from manet_lib.paths import RunPaths, project_root, reproduce_command
from manet_lib.workflow import steps
from manet_lib.workflow.parameters import fingerprint
from manet_lib.workflow.records import Known, Step, read_done, write_json

_DRAWN = ("figure4", "figure5", "figure6", "figure7")
"""Drawings: they follow from the code alone."""


def _steps(params: Params, paths: RunPaths) -> dict[str, tuple[Step, ...]]:
    """The steps behind each figure and table of the paper."""
    store, manifest, segmentation, raw, clean, *others, cost = steps.all_steps(params, paths)
    runs = tuple(others[: len(steps.grid(params))])  # those of the audit's views come after them
    return {
        "figure1": (store,),
        "figure2": (store, raw, clean),
        "figure3": (store, raw, clean),
        **dict.fromkeys(_DRAWN, ()),
        "figure8": (store, manifest, segmentation, raw),
        "figure9": (store, manifest, clean, *runs),
        "figure10": (store, manifest, clean, *runs),
        "table1": (store, manifest),
        "table2": (store, manifest, clean, *runs),
        "table3": (cost,),
        "table4": (store, manifest, clean, *runs),
        "table5": (store, manifest, clean, *runs),
    }


def provenance(params: Params, paths: RunPaths) -> dict[str, Any]:
    """What made each figure and table of the paper in a run.

    Returns:
        By name of the file: ``status``, and of what has been run the seconds of its steps, their devices, versions
        and arithmetic. The status is `reproduced` (the paper's data at its size, or no data at all), `partly`
        (other images, another size, or too few training runs), `phantoms only` or `not run`. Under ``run`` the
        profile, its command, the hashes of its parameters and of its images, and the commit.
    """
    known: Known = {}
    everything: dict[str, Any] = {}
    used: set[str] = set()
    for name, behind in _steps(params, paths).items():
        made = [step.record(known) for step in behind if step.fault(known) is None]
        used |= {key for step in behind for key in fingerprint(params, step.name)}
        exists = any((paths.figures / f"{name}.{ending}").is_file() for ending in ("png", "csv"))
        whole = exists and bool(made or not behind)
        entry: dict[str, Any] = {"status": _status(name, params, len(made), len(behind)) if whole else "not run"}
        if exists and made:
            entry |= {"seconds": round(sum(one["seconds"] for one in made), 1)}
            entry |= {key: sorted({one[key] for one in made if one.get(key)}) for key in ("device", "precision")}
            entry["versions"] = made[-1]["versions"]
        everything[name] = entry
    values = json.dumps({key: getattr(params, key) for key in sorted(used)})
    store = read_done(paths.store)
    images = store["outputs"]["images.npy"]["sha256"] if store else ""
    run = {"profile": params.profile, "command": reproduce_command(params.profile)}
    run |= {"commit": _commit(project_root()), "parameters": hashlib.sha256(values.encode()).hexdigest()[:16]}
    return {"run": run | {"images": images[:16]}} | everything


def _status(name: str, params: Params, done: int, wanted: int) -> str:
    if name in _DRAWN or name == "table3":
        return "reproduced"
    if params.data_source == "phantom":
        return "phantoms only"
    return "reproduced" if params.at_paper_size and done == wanted else "partly"


def _commit(folder: Path) -> str:
    """The commit of a checkout, with a plus sign where files differ from it; nothing where it is none."""
    command = ["git", "-C", str(folder), "describe", "--always", "--exclude=*", "--abbrev=12", "--dirty=+"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def write_provenance(params: Params, paths: RunPaths) -> None:
    """Write ``provenance.json`` to the figures folder of a run."""
    write_json(paths.figures / "provenance.json", provenance(params, paths))
