"""Tables as CSV, Markdown and LaTeX, the paper's printed tables, and what many tables read from a run."""

from collections.abc import Iterable
from importlib.resources import files

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from manet_lib.data.manifest import read_manifest
from manet_lib.params import CLASS_TITLES, CLASSES, Params, UserError
from manet_lib.paths import RunPaths, log_of
from manet_lib.training.classification import read_predictions
from manet_lib.workflow.records import Known, write_csv, write_text
from manet_lib.workflow.steps import classification_step, grid

MODEL_TITLES = {"resnet34": "ResNet34", "resnet50": "ResNet50", "vgg16": "VGG16", "inceptionv3": "Inceptionv3"}

NETWORKS = tuple(MODEL_TITLES)
"""The four networks of Table 2."""

Bounds = tuple[float, float, float]
"""A mean and its 95% interval."""


def model_title(name: str) -> str:
    """How the paper prints a model: ``resnet50_ma`` is ResNet50(MA); other networks stay as they are."""
    base, _, attention = name.partition("_")
    return MODEL_TITLES.get(base, base) + (f"({attention.upper()})" if attention else "")


def class_title(name: str) -> str:
    """How the paper prints a class; other names stay as they are."""
    return CLASS_TITLES.get(name, name)


def in_order(names: Iterable[str]) -> list[str]:
    """Names of classes, each once: the paper's in their order, then others by name."""
    found = set(names)
    return [*(name for name in CLASSES if name in found), *sorted(found - {*CLASSES})]


def published(name: str) -> pd.DataFrame:
    """A printed table of the paper, digit for digit, all cells as text.

    Args:
        name: table1_distribution, table2_test_accuracy, table3_cost, table4_report_resnet50_ma,
            table5_confusion_resnet50_ma or segmentation_iou.
    """
    with (files("manet_lib.report") / "published" / f"{name}.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file, dtype=str, keep_default_na=False)


def data_note(params: Params) -> str:
    """What a title says about the data, so that no table is taken for a reproduction that is none."""
    if params.data_source == "phantom":
        return "synthetic phantoms, not comparable with the paper"
    if not params.published:
        return f"data of profile {params.profile}, not the paper's"
    size = f" at {params.image_size} pixels instead of 512" if not params.at_paper_size else ""
    return f"the paper's data{size}"


def trained_models(params: Params, paths: RunPaths) -> list[tuple[str, int]]:
    """The (model, trial) pairs of a run that are trained, with its parameters of today, in Table 2's order."""
    known: Known = {}
    return [pair for pair in grid(params) if classification_step(params, paths, *pair).fault(known) is None]


def right_of(predictions: pd.DataFrame) -> pd.DataFrame:
    """Whether each image (columns) is classified correctly in each trial (rows) of one network."""
    right = predictions.assign(right=predictions["label"] == predictions["predicted"])
    wide = right.pivot(index="trial", columns="image_id", values="right")
    if wide.isna().any(axis=None):
        raise UserError("predictions.csv: the trials were tested on different images; run the profile again")
    return wide.astype(bool)


def predictions_of(paths: RunPaths, model: str, trials: list[int]) -> pd.DataFrame:
    """What a model predicts for the test images in some trials: trial, and the columns of its predictions.csv."""
    tables = [(trial, read_predictions(paths, model, trial)) for trial in trials]
    found = [table.assign(trial=trial) for trial, table in tables if table is not None]
    assert len(found) == len(trials) > 0, "asked for a training run that has not been run"
    return pd.concat(found)


def right_by_trial(paths: RunPaths, model: str, trials: list[int]) -> tuple[NDArray[np.bool_], list[str]]:
    """Which test images a model classifies correctly: bool (trials, images), and the patient of each image."""
    right = right_of(predictions_of(paths, model, trials))
    return right.to_numpy(), patients_of(paths, right.columns)


def patients_of(paths: RunPaths, images: pd.Index) -> list[str]:
    """The patient of each image by its image_id; an image without a known patient is its own patient."""
    patients = read_manifest(paths).set_index("image_id")["patient"].loc[images]
    return [patient or str(image) for image, patient in patients.items()]


def logs(params: Params, paths: RunPaths) -> dict[tuple[str, int], pd.DataFrame]:
    """The log of every trained model and trial."""
    return {pair: pd.read_csv(log_of(paths.classifier(*pair))) for pair in trained_models(params, paths)}


def with_interval(mean: float, low: float, high: float, form: str = ".1f") -> str:
    """A value with its interval, such as ``1.2 (0.8 to 1.6)``; the form is that of all three numbers."""
    return f"{mean:{form}} ({low:{form}} to {high:{form}})"


def in_percent(bounds: Bounds, form: str = ".1f") -> str:
    """A share, or a difference of two, in percent and followed by its interval."""
    mean, low, high = bounds
    return with_interval(100 * mean, 100 * low, 100 * high, form)


def format_p(p: float) -> str:
    """A probability as it is printed, with three decimals: ``0.004``, and ``<0.001`` rather than ``0.000``."""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def to_markdown(table: pd.DataFrame) -> str:
    """A table as GitHub-flavoured Markdown; numbers to the right."""
    number = [pd.api.types.is_numeric_dtype(table[name]) for name in table.columns]
    lines = [list(map(_cell, table.columns)), ["---:" if flag else "---" for flag in number]]
    lines += [list(map(_cell, row)) for row in table.itertuples(index=False)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _cell(value: object) -> str:
    """A cell of a Markdown table: in one line, and without a bar that would end it."""
    return " ".join(str(value).splitlines()).replace("|", r"\|")


_NAMED = {"\\": "textbackslash", "^": "textasciicircum", "~": "textasciitilde", "|": "textbar"}

_LATEX = str.maketrans(
    {sign: rf"\{sign}" for sign in "%_&#${}"}
    | {sign: rf"\{name}{{}}" for sign, name in _NAMED.items()}
    | {"–": "--", "\n": " "}
)


def _latex(text: str) -> str:
    return text.translate(_LATEX)


def write_table(table: pd.DataFrame, paths: RunPaths, name: str, caption: str) -> str:
    """Write a table as CSV, Markdown and LaTeX to the figures folder.

    Args:
        table: cells as they shall be printed.
        paths: of the run.
        name: file name without ending, such as `table1`.
        caption: one sentence, first line of the Markdown file and caption in LaTeX.

    Returns:
        Caption and table as Markdown, to be shown.
    """
    text = f"**{caption}**\n\n{to_markdown(table)}"
    write_csv(paths.figures / f"{name}.csv", table)
    write_text(paths.figures / f"{name}.md", text)
    printed = table.map(lambda value: _latex(str(value))).set_axis([_latex(str(c)) for c in table.columns], axis=1)
    latex = printed.to_latex(index=False, caption=_latex(caption), label=f"tab:{name}")
    write_text(paths.figures / f"{name}.tex", latex)
    return text
