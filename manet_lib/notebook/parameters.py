"""The settings of a notebook: its profile's file, overlaid by what its parameters cell or Papermill says."""

import os
import symtable
from dataclasses import replace
from typing import Any

from manet_lib.params import MODELS, Params, UserError, read_yaml, validate
from manet_lib.paths import DEFAULT_PROFILE, RunPaths, params_file
from manet_lib.workflow.edited import edited_profile, edits, reuse
from manet_lib.workflow.progress import is_live
from manet_lib.workflow.records import save_settings

_IPYTHON = {"In", "Out", "exit", "quit", "open", "get_ipython"}
_FIRST = "_manet_names"


def _injected(namespace: dict[str, Any]) -> dict[str, Any]:
    """The values that stand above the settings cell; when it runs again, no names of later cells.

    Names that are no parameters count only if their values are plain; modules and functions are ignored.
    """
    plain = (str, int, float, bool, list, dict, tuple, type(None))
    found = {
        name: value
        for name, value in namespace.items()
        if not name.startswith("_")
        and name not in _IPYTHON
        and (isinstance(value, plain) or (name in Params.model_fields and not callable(value)))
    }
    first = namespace.setdefault(_FIRST, tuple(found))
    typed = next((names for names in reversed(_cells(namespace)) if "profile" in names), set())
    kept = {*first, *typed, *Params.model_fields}
    return {name: value for name, value in found.items() if name in kept}


def _cells(namespace: dict[str, Any]) -> list[set[str]]:
    """Names assigned in each executed cell, outside functions."""
    return [_assigned(source) for source in namespace.get("In", [])]


def _assigned(source: str) -> set[str]:
    try:
        names = symtable.symtable(source, "cell", "exec").get_symbols()
    except SyntaxError:  # a cell that could not run
        return set()
    return {name.get_name() for name in names if name.is_assigned()}


def _without_deleted(values: dict[str, Any], cells: list[set[str]]) -> dict[str, Any]:
    """Only what was said since the parameters cell last ran: a line deleted there no longer counts."""
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
    Where every parameter is given, as the workflow does it, nothing is an edit: the run is what they say.
    Tables and figures of a notebook that somebody has open go to a folder of their own, ``live/``, so that what is
    tried there replaces nothing that a workflow has made.

    Args:
        namespace: ``globals()`` of the notebook.
        own: names of the parameters cell that belong to the notebook, such as model and trial; `audit_view`, if
            it is not empty, chooses the training run with that view.

    Raises:
        UserError: a name is unknown or a value impossible; one line.
    """
    values = _injected(namespace)
    missing = [name for name in own if name not in values]
    if missing:
        raise UserError(f"{missing[0]}: has no value; give it one in the parameters cell")
    mine = {name: values.pop(name) for name in own}
    audit_view = mine.get("audit_view", "")
    if is_live():
        values = _without_deleted(values, _cells(namespace))
    if set(values) == {"profile"}:
        values["profile"] = os.environ.get("MANET_PROFILE") or values["profile"]
    profile = str(values.get("profile", ""))
    file = params_file(profile)
    if not file.is_file() and set(values) == {"profile"}:
        known = ", ".join(sorted(path.stem for path in file.parent.glob("*.yaml")))
        raise UserError(f"profile: {profile!r} has no file in params/; expected one of {known}")
    base = read_yaml(file if file.is_file() else params_file(DEFAULT_PROFILE))
    params = validate(base | values, f"profile {profile}")
    if mine.get("model", MODELS[0]) not in MODELS:
        raise UserError(f"model: {mine['model']!r} is not a model; expected one of {', '.join(MODELS)}")
    if "trial" in mine and (type(mine["trial"]) is not int or mine["trial"] not in params.trial_numbers):
        raise UserError(f"trial: {mine['trial']!r} is not a trial; expected 1 to {params.trials}")
    if audit_view and audit_view not in params.audit_views:
        known = ", ".join(params.audit_views) or "none, as audit_views is empty"
        raise UserError(f"audit_view: {audit_view!r} is not one of audit_views; expected '' or {known}")
    whole = Params.model_fields.keys() <= values.keys()
    if not whole:
        params = _apart(params, validate(base, file.name), file.is_file())
    paths = RunPaths.of(params.profile)
    if is_live() and not whole:
        paths = replace(paths, figures=paths.figures / "live")
    save_settings(params, paths)
    return (params.seeing(audit_view), paths.seeing(audit_view)) if audit_view else (params, paths)


def _apart(params: Params, base: Params, is_own: bool) -> Params:
    """Edited parameters under a profile of their own, whose run takes over what the edits do not touch."""
    changes = edits(params, base)
    if is_own and not changes:
        return params
    name = edited_profile(params.profile, changes) if is_own else params.profile
    edited = params.model_copy(update={"profile": name})
    taken = reuse(edited, RunPaths.of(name), RunPaths.of(base.profile))
    said = ", ".join(f"{key}: {value!r}" for key, value in changes.items())
    said = f"{said}, else" if said else "all parameters"
    print(f"{said} as in {base.profile}.yaml; this notebook works in runs/{name}/")
    if taken:
        print(f"taken over from runs/{base.profile}/: {', '.join(taken)}")
    return edited
