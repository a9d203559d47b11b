"""The graph of notebooks: what each makes, shows and needs. Snakemake orders and runs it; ``done.json`` decides.

A node is one notebook executed with some parameters. Its record, beside the executed notebook, holds what it
shows: the notebook's source, its code, its parameters and the records of its steps. :func:`stale` says which nodes
are to be run, and why; Snakemake is given these and no others.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from manet_lib.params import Params, UserError
from manet_lib.paths import RunPaths, done_of, project_root
from manet_lib.workflow.digests import sha256_of
from manet_lib.workflow.records import Known, Step, read_json
from manet_lib.workflow.source_code import PACKAGE, code_of, imported_by
from manet_lib.workflow.steps import all_steps, training_runs

_TABLES = (".csv", ".json", ".yaml", ".gz")


@dataclass(frozen=True)
class Node:
    """A notebook of a run.

    Attributes:
        name: of the executed notebook, without ending.
        source: the notebook in ``notebooks/``.
        own: what is injected besides the parameter file: model and trial.
        steps: the steps that it makes or shows.
        shows: parameters that it reads besides those of its steps.
        step_modules: the modules of all steps of the run, whose code is in the steps' records.
    """

    name: str
    source: Path
    own: tuple[tuple[str, Any], ...]
    steps: Sequence[Step]
    shows: tuple[str, ...]
    step_modules: frozenset[str]

    def shown(self, params: Params) -> dict[str, Any]:
        """What the notebook is made of, as plain JSON values; its steps apart.

        Raises:
            UserError: the notebook cannot be read as one.
        """
        try:
            notebook, modules = _cells(self.source, self.source.stat().st_mtime_ns)
        except (OSError, ValueError, LookupError, SyntaxError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"{self.source.name}: cannot be executed as it stands: {reason}") from None
        code = code_of(*modules, leaving_out=self.step_modules) | {"recorded results": _digest_of_records()}
        values = {name: getattr(params, name) for name in self.shows}  # those of its steps are in their records
        shown = {"notebook": notebook, "code": code, "parameters": values | dict(self.own)}
        return json.loads(json.dumps(shown))

    def results(self) -> dict[str, Any]:
        """The results that the notebook shows: digests of its steps' records, and which are of older code."""
        kept = [step for step in self.steps if step.params.old_code == "keep"]
        return {
            "steps": {step.folder.name: sha256_of(done_of(step.folder)) for step in self.steps},
            "older": {step.folder.name: step.outdated_code() for step in kept},
        }


@cache
def _cells(notebook: Path, changed: int) -> tuple[str, tuple[str, ...]]:
    """A digest of a notebook's cells, and the modules that they import; ``changed`` is the file's time."""
    book = json.loads(notebook.read_text(encoding="utf-8"))
    cells = [(cell["cell_type"], "".join(cell["source"])) for cell in book["cells"]]
    modules = imported_by(source for kind, source in cells if kind == "code")
    return hashlib.sha256(json.dumps(cells).encode()).hexdigest(), tuple(modules)


@cache
def _digest_of_records() -> str:
    """A digest of the paper's printed numbers and of all recorded results of the project, which notebooks show."""
    root = project_root()
    folders = [PACKAGE / "report" / "published", root / "params" / "studies"]
    folders += [root / "benchmarks" / "results", root / "figures" / "recorded"]
    files = sorted(file for folder in folders for file in folder.rglob("*.*") if file.suffix in _TABLES)
    return hashlib.sha256("".join(map(sha256_of, files)).encode()).hexdigest()[:16]


def nodes(params: Params, paths: RunPaths) -> dict[str, Node]:
    """All nodes of a run by name, in an order in which each comes after what it needs."""
    whole = all_steps(params, paths)
    step_modules = frozenset(module for step in whole for module in step.modules)
    *before, attention, probes, mask_scores, perturbed_masks, confounders, cost = whole
    store, manifest, segmentation, raw_masks, clean_masks, *trained = before
    count = len(params.models) * params.trials
    runs, audits = trained[:count], trained[count:]
    every = [store, manifest, segmentation, raw_masks, clean_masks, *runs, attention]
    dpi, printed = "figure_dpi", "published"
    table: list[tuple[str, tuple[tuple[str, Any], ...], Sequence[Step], tuple[str, ...]]] = [
        ("01_data", (), [store, manifest], (dpi, printed)),
        ("02_segmentation", (), [segmentation, raw_masks], (dpi, printed)),
        ("03_postprocessing", (), [clean_masks], (dpi,)),
        *(
            ("04_classification", (("model", model), ("trial", trial), ("audit_view", seen)), [step], (dpi,))
            for (seen, model, trial), step in zip(training_runs(params), [*runs, *audits], strict=True)
        ),
        ("05_attention_maps", (), [*runs, attention, probes], (dpi,)),
        ("06_results", (), [*every, cost], (dpi, printed, "models", "trials")),
        ("07_cost", (), [cost], (dpi, printed)),
        ("08_reach", (), [clean_masks], (dpi, "count_include_pad")),
        ("09_masks", (), [mask_scores, perturbed_masks], (dpi,)),
        ("10_shortcut_audit", (), [store, manifest, *runs, *audits, confounders], (dpi, "audit_views")),
        ("11_your_own_xray", (), [store, manifest, segmentation, clean_masks, *runs], (dpi,)),
    ]
    found = {}
    for notebook, own, steps, shows in table:
        name = "-".join([notebook, *(str(value) for _, value in own if value)])
        found[name] = Node(
            name, project_root() / "notebooks" / f"{notebook}.ipynb", own, steps, shows, step_modules
        )
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
    if record is None or not paths.executed(node.name).is_file() or not paths.figures.is_dir():
        return f"{node.name}: has not been executed yet"
    key = node.shown(params) | node.results()
    names = {"notebook": "source", "steps": "results", "older": "kept results of older code"}
    changed = [names.get(part, part) for part in key if record.get(part) != key[part]]
    return f"{node.name}: was executed before its {' and '.join(changed)} changed" if changed else None
