"""The graph of notebooks: what each makes, shows and needs. Snakemake orders and runs it; ``done.json`` decides.

A node is one notebook executed with some parameters. Its record, beside the executed notebook, holds what that
shows: the notebook's source, its code, its parameters and the records of its steps. :func:`stale` says which nodes
are to be run, and why; their key files are renewed, and Snakemake runs what is older than its key.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manet_lib.artifacts import Known, Step, read_json, write_json
from manet_lib.params import Params, fingerprint
from manet_lib.paths import RunPaths, project_root
from manet_lib.source_code import code_of, imported_by
from manet_lib.steps import all_steps, grid


@dataclass(frozen=True)
class Node:
    """A notebook of a run.

    Attributes:
        name: of the executed notebook, without ending.
        source: the notebook in ``notebooks/``.
        own: what is injected besides the parameter file: model and trial.
        steps: the steps that it makes or shows.
        shows: parameters that it reads besides those of its steps.
    """

    name: str
    source: Path
    own: tuple[tuple[str, Any], ...]
    steps: Sequence[Step]
    shows: tuple[str, ...]

    def key(self, params: Params) -> dict[str, Any]:
        """What the executed notebook shows, as plain JSON values; its steps are to be done."""
        text = self.source.read_text(encoding="utf-8")
        cells = [(cell["cell_type"], "".join(cell["source"])) for cell in json.loads(text)["cells"]]
        steps = {step.folder.name: _digest(step) for step in self.steps}
        values = {name: getattr(params, name) for name in self.shows}
        for step in self.steps:
            values |= fingerprint(params, step.name)
        return json.loads(
            json.dumps(
                {
                    "notebook": hashlib.sha256(json.dumps(cells).encode()).hexdigest(),
                    "code": code_of(*imported_by(source for kind, source in cells if kind == "code")),
                    "parameters": values | dict(self.own),
                    "steps": steps,
                }
            )
        )


def _digest(step: Step) -> str:
    return hashlib.sha256((step.folder / "done.json").read_bytes()).hexdigest()


def nodes(params: Params, paths: RunPaths) -> dict[str, Node]:
    """All nodes of a run by name, in an order in which each comes after what it needs."""
    store, manifest, segmentation, raw_masks, clean_masks, *trainings, attention, cost = all_steps(params, paths)
    every = [store, manifest, segmentation, raw_masks, clean_masks, *trainings, attention]
    dpi, printed = "figure_dpi", "published"
    table: list[tuple[str, tuple[tuple[str, Any], ...], Sequence[Step], tuple[str, ...]]] = [
        ("01_data", (), [store, manifest], (dpi, printed)),
        ("02_segmentation", (), [segmentation, raw_masks], (dpi, printed)),
        ("03_postprocessing", (), [clean_masks], (dpi,)),
        *(
            ("04_classification", (("model", model), ("trial", trial)), [step], (dpi,))
            for (model, trial), step in zip(grid(params), trainings, strict=True)
        ),
        ("05_attention_maps", (), [*trainings, attention], (dpi,)),
        ("06_results", (), every, (dpi, printed, "models", "trials")),
        ("07_cost", (), [cost], (dpi, printed)),
    ]
    found = {}
    for notebook, own, steps, shows in table:
        name = "-".join([notebook, *(str(value) for _, value in own)])
        found[name] = Node(name, project_root() / "notebooks" / f"{notebook}.ipynb", own, steps, shows)
    return found


def stale(params: Params, paths: RunPaths) -> Iterator[tuple[str, str]]:
    """The nodes that are to be run, and why, in one line each."""
    known: Known = {}
    for node in nodes(params, paths).values():
        why = _reason(node, params, paths, known)
        if why is not None:
            yield node.name, why


def _reason(node: Node, params: Params, paths: RunPaths, known: Known) -> str | None:
    for step in node.steps:
        fault = step.fault(known)
        if fault is not None:
            return fault
    record = read_json(paths.node_record(node.name))
    if record is None or not paths.executed(node.name).is_file():
        return f"{node.name}: has not been executed yet"
    key = node.key(params)
    changed = [part for part in key if record.get(part) != key[part]]
    return f"{node.name}: was executed before its {' and '.join(changed)} changed" if changed else None


def renew_keys(why: Mapping[str, str], names: Iterable[str], paths: RunPaths) -> None:
    """Renew the key files of the nodes that are to be run, and make those that are not there.

    Args:
        why: from :func:`stale`.
        names: of all nodes of the run.
        paths: of the run.
    """
    for name in names:
        key = paths.node_key(name)
        if name in why or not key.is_file():
            turn = (read_json(key) or {"turn": 0})["turn"] + 1
            write_json(key, {"turn": turn, "why": why.get(name, "")})


def record(name: str, params: Params, paths: RunPaths) -> None:
    """Write down what an executed notebook shows."""
    node = nodes(params, paths)[name]
    write_json(paths.node_record(name), node.key(params))
