"""What the notebooks share: their settings cell and how they show tables."""

from __future__ import annotations

import ast
import inspect
import os
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
from IPython.display import Markdown

from manet_lib.artifacts import Step, save_settings
from manet_lib.edited import edited_profile, edits, reuse
from manet_lib.params import MODELS, READ_BY, Params, UserError, read_yaml, validate
from manet_lib.paths import DEFAULT_PROFILE, STARTED_WITH, RunPaths, params_file, reproduce_command
from manet_lib.progress import is_live
from manet_lib.report.tables import to_markdown, write_table

MATTERS: dict[str, tuple[str, ...]] = {
    "store": ("data_source", "data_dir", "composition", "phantom_images", "confounder_strength", "image_size"),
    "manifest": ("split", "test_fraction"),
    "segmentation": ("seg_encoder", "seg_epochs", "seg_batch_size", "seg_learning_rate", "seg_rotation"),
    "raw_masks": ("seg_encoder", "precision"),
    "clean_masks": ("min_object_fraction",),
    "classification": ("epochs", "batch_size", "learning_rate", "rotation", "count_include_pad", "view"),
    "attention": ("models", "trials", "cam_per_class", "count_include_pad"),
    "probes": ("models", "trials", "probe_per_class"),
    "mask_scores": ("data_source", "data_dir", "reference_masks"),
    "other_masks": ("models", "trials", "count_include_pad", "view"),
    "cost": ("models", "image_size", "batch_size", "cost_repeats", "precision"),
}
"""The parameters of each step that a reader would change first."""

PHANTOM_ONLY = ("phantom_images", "phantom_size", "confounder_strength")

_IPYTHON = {"In", "Out", "exit", "quit", "open", "get_ipython"}
_FIRST = "_manet_names"


def _injected(namespace: dict[str, Any]) -> dict[str, Any]:
    """The plain values that stand above the settings cell; when it runs again, no names of later cells."""
    plain = (str, int, float, bool, list, dict, tuple, type(None))
    found = {
        name: value
        for name, value in namespace.items()
        if not name.startswith("_") and name not in _IPYTHON and isinstance(value, plain)
    }
    first = namespace.setdefault(_FIRST, tuple(found))
    return {name: value for name, value in found.items() if name in first or name in Params.model_fields}


def _assigned(source: str) -> set[str]:
    """Names that a cell gives a value."""
    try:
        body = ast.parse(source).body
    except SyntaxError:  # a magic command
        return set()
    targets = [target for line in body if isinstance(line, ast.Assign) for target in line.targets]
    return {target.id for target in targets if isinstance(target, ast.Name)}


def _without_deleted(values: dict[str, Any], history: list[str]) -> dict[str, Any]:
    """Only what was said since the parameters cell last ran: a line deleted there no longer counts."""
    cells = [_assigned(source) for source in history]
    starts = [number for number, names in enumerate(cells) if "profile" in names]
    if not starts:
        return values
    said = set().union(*cells[starts[-1] :])
    return {name: value for name, value in values.items() if name in said or name not in Params.model_fields}


def settings(namespace: dict[str, Any], *own: str) -> tuple[Params, RunPaths]:
    """The settings of a notebook: its profile's file, overlaid by what its parameters cell or Papermill says.

    To be called right after the ``parameters`` cell. Where that names a profile alone, the environment variable
    MANET_PROFILE replaces it, so that ``make lab`` can look at any run. Values that differ from the file's are
    edits: the notebook then works in a folder of its own, which takes over all finished steps that the edits do
    not touch, and leaves the run of the file as it is. A profile without a file starts from the default's.

    Args:
        namespace: ``globals()`` of the notebook.
        own: names of the parameters cell that belong to the notebook, such as model and trial.

    Raises:
        UserError: a name is unknown or a value impossible; one line.
    """
    values = _injected(namespace)
    mine = {name: values.pop(name) for name in own}
    if is_live():
        values = _without_deleted(values, namespace.get("In", []))
    if set(values) == {"profile"}:
        values["profile"] = os.environ.get("MANET_PROFILE") or values["profile"]
    profile = str(values.get("profile", ""))
    file = Path(os.environ.get(STARTED_WITH) or params_file(profile))
    if not file.is_file() and set(values) == {"profile"}:
        known = ", ".join(sorted(path.stem for path in file.parent.glob("*.yaml")))
        raise UserError(f"profile: {profile!r} has no file in params/; expected one of {known}")
    base = read_yaml(file if file.is_file() else params_file(DEFAULT_PROFILE))
    params = validate(base | values, f"profile {profile}")
    if mine.get("model", MODELS[0]) not in MODELS:
        raise UserError(f"model: {mine['model']!r} is not a model; expected one of {', '.join(MODELS)}")
    if "trial" in mine and (type(mine["trial"]) is not int or mine["trial"] not in params.trial_numbers):
        raise UserError(f"trial: {mine['trial']!r} is not a trial; expected 1 to {params.trials}")
    params = _apart(params, validate(base, file.name), file.is_file())
    paths = RunPaths.of(params.profile)
    save_settings(params, paths)
    return params, paths


def _apart(params: Params, base: Params, is_own: bool) -> Params:
    """Edited parameters under a profile of their own, whose run takes over what the edits do not touch."""
    changes = edits(params, base)
    if is_own and not changes:
        return params
    name = edited_profile(params.profile, changes) if is_own else params.profile
    edited = params.model_copy(update={"profile": name})
    taken = reuse(edited, RunPaths.of(name), RunPaths.of(base.profile))
    said = ", ".join(f"{key}: {value!r}" for key, value in changes.items()) or "all"
    print(f"{said}, else as in {base.profile}.yaml; this notebook works in runs/{name}/")
    if taken:
        print(f"taken over from runs/{base.profile}/: {', '.join(taken)}")
    return edited


def used(params: Params, *steps: str) -> Markdown:
    """The parameters that some steps read and what each means: six at most that matter, the rest folded away."""
    names = dict.fromkeys(["profile", *(name for step in steps for name in READ_BY[step])])
    other = {"data_dir", "composition"} if params.data_source == "phantom" else set(PHANTOM_ONLY)
    wanted = (name for step in steps for name in MATTERS[step] if name in names and name not in other)
    first = list(dict.fromkeys(wanted))[:6]
    rest = [name for name in names if name not in first]
    folded = f"<details><summary>{len(rest)} more parameters</summary>\n\n{_meanings(params, rest)}\n</details>\n"
    return Markdown(f"{_meanings(params, first)}\n{folded}")


def _meanings(params: Params, names: Iterable[str]) -> str:
    rows = []
    for name in names:
        value = getattr(params, name)
        meaning = " ".join(str(Params.model_fields[name].description).split()).replace("``", "`")
        rows.append((f"`{name}`", f"`{value}`" if value != "" else "", meaning))
    return to_markdown(pd.DataFrame(rows, columns=["parameter", "value", "meaning"]))


def show_table(table: pd.DataFrame, paths: RunPaths, name: str, caption: str) -> Markdown:
    """Write a table to the figures folder and show it; see :func:`manet_lib.report.tables.write_table`."""
    return Markdown(write_table(table, paths, name, caption))


def say(text: str) -> Markdown:
    """Show a sentence that was computed, as text."""
    return Markdown(text)


def command(paths: RunPaths) -> str:
    """What a person types to run this run whole."""
    return reproduce_command(paths.root.name)


def need(*steps: Step) -> None:
    """Stop the notebook here unless some steps are done, with today's parameters.

    Raises:
        UserError: one is not; a notebook shows it as one line: why, and the command that does the step.
    """
    for step in steps:
        step.record()


def takes(*steps: Step) -> Markdown:
    """How long the steps of a notebook took when they were run, or that they are still to be run."""
    to_do = [step.folder.name for step in steps if not step.is_done()]
    if to_do:
        return Markdown(f"Still to be run: {', '.join(to_do)}. The cells below do it and say how far they are.")
    records = [step.record() for step in steps]
    minutes = sum(record["seconds"] for record in records) / 60
    spent = f"{minutes:.1f} minutes" if minutes >= 1 else "less than a minute"
    where = ", ".join(dict.fromkeys(record["device"] for record in records))
    return Markdown(f"The steps of this notebook took {spent} ({where}). They are done and are not run again.")


def source(thing: Any) -> Markdown:
    """The lines of a function or class as they run, without its docstring."""
    text = textwrap.dedent(inspect.getsource(thing))
    lines: list[str | None] = list(text.splitlines())
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node) is not None:
            docstring = node.body[0]
            for number in range(docstring.lineno - 1, docstring.end_lineno or 0):
                lines[number] = None
    code = "\n".join(line for line in lines if line is not None)
    return Markdown(f"```python\n{code}\n```")


def say_done(did: bool, what: str) -> None:
    """Say whether a step had anything to do."""
    print(f"{what}: {'done now' if did else 'was done already'}")
