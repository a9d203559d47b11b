"""The graph of notebooks: what each makes, shows and needs. Snakemake orders and runs it; ``done.json`` decides.

A node is one notebook executed with some parameters. Its record, beside the executed notebook, holds what that
shows: the notebook's source, its code, its parameters and the records of its steps. :func:`stale` says which nodes
are to be run, and why; their key files are renewed, and Snakemake runs what is older than its key.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manet_lib.artifacts import Known, Step, read_json, write_json
from manet_lib.digests import sha256_of
from manet_lib.params import Params, UserError
from manet_lib.paths import RunPaths, done_of, project_root, recorded_reach, recorded_shortcuts, recorded_unlike
from manet_lib.source_code import PACKAGE, code_of, imported_by
from manet_lib.steps import all_steps, training_runs

STEPS_OWN = frozenset(
    f"manet_lib.{name}"
    for name in (
        *("attention.probes", "attention.scores", "confounders", "data.manifest", "data.store", "mask_checks"),
        "postprocess",
        *("training.classification", "training.cost", "training.segmentation"),
    )
)
"""The modules of all steps, which a notebook's code is not followed into."""

PUBLISHED = PACKAGE / "report" / "published"


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

    def shown(self, params: Params) -> dict[str, Any]:
        """What the notebook is made of, as plain JSON values; its steps apart.

        Raises:
            UserError: the notebook cannot be read as one.
        """
        try:
            book = json.loads(self.source.read_text(encoding="utf-8"))
            cells = [(cell["cell_type"], "".join(cell["source"])) for cell in book["cells"]]
            modules = imported_by(source for kind, source in cells if kind == "code")
        except (OSError, ValueError, LookupError, SyntaxError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"{self.source.name}: cannot be executed as it stands: {reason}") from None
        code = code_of(*modules, leaving_out=STEPS_OWN)  # what steps run is in their records
        code |= {path.name: sha256_of(path)[:16] for path in _shown_files(code, params)}
        values = {name: getattr(params, name) for name in self.shows}  # those of its steps are in their records
        notebook = hashlib.sha256(json.dumps(cells).encode()).hexdigest()
        shown = {"notebook": notebook, "code": code, "parameters": values | dict(self.own)}
        return json.loads(json.dumps(shown))

    def results(self) -> dict[str, Any]:
        """The results that the notebook shows: digests of its steps' records, and which are of older code."""
        kept = [step for step in self.steps if step.params.old_code == "keep"]
        return {
            "steps": {step.folder.name: sha256_of(done_of(step.folder)) for step in self.steps},
            "older": {step.folder.name: step.outdated_code() for step in kept},
        }


def _shown_files(code: Mapping[str, str], params: Params) -> Iterator[Path]:
    """Files of the project that a notebook with this code shows: printed numbers, and recorded results."""
    if "manet_lib.report.tables" in code:
        yield from sorted(PUBLISHED.glob("*.*"))
    if "manet_lib.report.agreement" in code and (file := RunPaths.of(params.profile).record).is_file():
        yield file
    if "manet_lib.report.reach" in code:
        yield from sorted(recorded_reach().glob("*.csv"))
    if "manet_lib.report.audit" in code:
        yield from sorted(recorded_shortcuts().glob("*.csv"))
    if (
        "manet_lib.report.masks" in code
        and (scores := RunPaths.of("cxr_sample").recorded / "mask_scores.csv").is_file()
    ):
        yield scores
    if "manet_lib.report.unlike" in code and recorded_unlike().is_file():
        yield recorded_unlike()


def nodes(params: Params, paths: RunPaths) -> dict[str, Node]:
    """All nodes of a run by name, in an order in which each comes after what it needs."""
    *before, attention, probes, mask_scores, other_masks, confounders, cost = all_steps(params, paths)
    store, manifest, segmentation, raw_masks, clean_masks, *trained = before
    count = len(params.models) * params.trials
    trainings, audits = trained[:count], trained[count:]
    every = [store, manifest, segmentation, raw_masks, clean_masks, *trainings, attention]
    dpi, printed = "figure_dpi", "published"
    table: list[tuple[str, tuple[tuple[str, Any], ...], Sequence[Step], tuple[str, ...]]] = [
        ("01_data", (), [store, manifest], (dpi, printed)),
        ("02_segmentation", (), [segmentation, raw_masks], (dpi, printed)),
        ("03_postprocessing", (), [clean_masks], (dpi,)),
        *(
            ("04_classification", (("model", model), ("trial", trial), ("audit_view", seen)), [step], (dpi,))
            for (seen, model, trial), step in zip(training_runs(params), [*trainings, *audits], strict=True)
        ),
        ("05_attention_maps", (), [*trainings, attention, probes], (dpi,)),
        ("06_results", (), [*every, cost], (dpi, printed, "models", "trials")),
        ("07_cost", (), [cost], (dpi, printed)),
        ("08_reach", (), [clean_masks], (dpi, "count_include_pad")),
        ("09_masks", (), [mask_scores, other_masks], (dpi,)),
        ("10_shortcut_audit", (), [store, manifest, *trainings, *audits, confounders], (dpi, "audit_views")),
        ("11_your_own_xray", (), [store, manifest, segmentation, clean_masks, *trainings], (dpi,)),
    ]
    found = {}
    for notebook, own, steps, shows in table:
        name = "-".join([notebook, *(str(value) for _, value in own if value)])
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
    if record is None or not paths.executed(node.name).is_file() or not paths.figures.is_dir():
        return f"{node.name}: has not been executed yet"
    key = node.shown(params) | node.results()
    changed = [part for part in key if record.get(part) != key[part]]
    return f"{node.name}: was executed before its {' and '.join(changed)} changed" if changed else None


def renew_keys(why: Mapping[str, str], names: Iterable[str], paths: RunPaths) -> None:
    """Make the key files of the nodes that are to be run newer than their notebooks, and the others' older.

    Args:
        why: from :func:`stale`.
        names: of all nodes of the run.
        paths: of the run.
    """
    for name in names:
        key, executed = paths.node_key(name), paths.executed(name)
        if name in why or not key.is_file():
            write_json(key, {"why": why.get(name, "")})
        now, made = key.stat().st_mtime, executed.stat().st_mtime if executed.is_file() else 0.0
        if name not in why:
            os.utime(key, (min(now, made - 1),) * 2)
        elif made >= now:  # by a clock that was ahead
            os.utime(executed, (now - 1,) * 2)
