"""What the cells of notebooks call to show parameters, tables, sentences and code, and to stop in one line."""

import ast
import inspect
import textwrap
from collections.abc import Iterable
from html import escape
from typing import Any

import pandas as pd
from IPython.display import Markdown

from manet_lib.params import Params
from manet_lib.paths import RunPaths, reproduce_command
from manet_lib.report.tables import to_markdown, write_table
from manet_lib.workflow.parameters import PHANTOM_ONLY, READ_BY
from manet_lib.workflow.records import Step

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
    "perturbed_masks": ("models", "trials", "count_include_pad", "view"),
    "confounders": ("confounder_strength", "audit_views", "models", "trials"),
    "cost": ("models", "image_size", "batch_size", "cost_repeats", "precision"),
}
"""The parameters of each step that a reader would change first."""


def used(params: Params, *steps: str) -> Markdown:
    """The parameters that some steps read and what each means: six at most that matter, the rest folded away."""
    names = dict.fromkeys(["profile", *(name for step in steps for name in READ_BY[step])])
    other = {"data_dir", "composition"} if params.data_source == "phantom" else set(PHANTOM_ONLY)
    wanted = (name for step in steps for name in MATTERS[step] if name in names and name not in other)
    first = list(dict.fromkeys(wanted))[:6]
    rest = [name for name in names if name not in first]
    count = f"{len(rest)} more parameter{'s' if len(rest) != 1 else ''}"
    folded = f"<details><summary>{count}</summary>\n\n{_meanings(params, rest)}\n</details>\n"
    return Markdown(f"{_meanings(params, first)}\n{folded}")


def _meanings(params: Params, names: Iterable[str]) -> str:
    rows = []
    for name in names:
        value = getattr(params, name)
        meaning = " ".join(str(Params.model_fields[name].description).split()).replace("``", "`")
        rows.append((f"`{name}`", f"`{value}`" if value != "" else "", meaning))
    return to_markdown(pd.DataFrame(rows, columns=["parameter", "value", "meaning"]))


LARGEST = (14, 8)
"""Rows and columns of a table that is shown unfolded."""


def show_table(table: pd.DataFrame, paths: RunPaths, name: str, caption: str, *, fold: bool = False) -> Markdown:
    """Write a table to the figures folder and show it; a large one, or with ``fold``, below a line that opens it.

    See :func:`write_table` for the arguments.
    """
    text = write_table(table, paths, name, caption)
    if not fold and len(table) <= LARGEST[0] and table.shape[1] <= LARGEST[1]:
        return Markdown(text)
    return folded(table, caption)


def folded(table: pd.DataFrame, caption: str) -> Markdown:
    """A table below a line with its caption and size that opens it."""
    size = f"{len(table)} row{'s' * (len(table) != 1)}, {table.shape[1]} columns"
    return Markdown(
        f"<details><summary>{escape(caption)} ({size})</summary>\n\n{to_markdown(table)}\n</details>\n"
    )


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


def source(*things: Any) -> Markdown:
    """The lines of functions or classes as they run, without their docstrings."""
    code = "\n\n\n".join(map(_bare, things))
    return Markdown(f"```python\n{code}\n```")


def _bare(thing: Any) -> str:
    text = textwrap.dedent(inspect.getsource(thing))
    lines: list[str | None] = list(text.splitlines())
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node) is not None:
            docstring = node.body[0]
            for number in range(docstring.lineno - 1, docstring.end_lineno or 0):
                lines[number] = None
    return "\n".join(line for line in lines if line is not None)


def say_done(did: bool, what: str) -> None:
    """Say whether a step had anything to do."""
    print(f"{what}: {'done now' if did else 'was done already'}")
