"""What a finished run shows, in a few lines: the end of `make reproduce`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import pandas as pd

from manet_lib.artifacts import read_table
from manet_lib.confounders import THUMBNAILS
from manet_lib.params import Params
from manet_lib.paths import RunPaths, output_root
from manet_lib.report.agreement import exact_table, measured_table, other_settings, recorded, verdict
from manet_lib.report.confounders import accuracy_with_markers, title_of
from manet_lib.report.provenance import write_provenance

_FIRST = ("overview", "figure9", "confounders")
"""Figures to open first."""


def closing_lines(params: Params, paths: RunPaths) -> Iterator[str]:
    """At most ten lines: what a run made and shows, whether it agrees with the recorded one, what to open."""
    write_provenance(params, paths)
    root = output_root()
    figures = sorted({path.stem for path in paths.figures.glob("*.png")})
    tables = sorted({path.stem for path in paths.figures.glob("*.csv")})
    yield f"{len(tables)} tables and {len(figures)} figures are in {paths.figures.relative_to(root)}/."
    yield from _accuracies(params, paths)
    yield beside_recorded(params, paths).said
    first = [f"{paths.figures.relative_to(root)}/{name}.png" for name in _FIRST if name in figures]
    executed = (paths.root / "notebooks").relative_to(root)
    yield f"Open first: {', '.join(first)}; the executed notebooks are in {executed}/."


def _accuracies(params: Params, paths: RunPaths) -> Iterator[str]:
    """Test accuracy of each network, and with other markers where it was trained on whole images."""
    file = paths.confounders / "predictions.csv"
    if not file.is_file():
        return
    table = accuracy_with_markers(read_table(file))
    own = table[(table["view"] == params.view) & (table["test"] == "as trained")]
    named = [f"{title_of(row.model)} {row.accuracy:.0f}%" for row in own.itertuples()]
    yield f"Test accuracy, {params.view}: {', '.join(named)}."
    whole = table[(table["view"] == "whole") & (table["model"] != THUMBNAILS)]
    wide = whole.pivot(index="model", columns="test", values="accuracy")
    if params.view != "whole" and "swapped" in wide:
        named = [
            f"{title_of(model)} {wide.loc[model, 'as trained']:.0f}% → {wide.loc[model, 'swapped']:.0f}%"
            for model in dict.fromkeys(whole["model"])
        ]
        yield f"Whole images, the sources' markers swapped between classes: {', '.join(named)}."


@dataclass(frozen=True)
class Beside:
    """A run beside the recorded one of its profile.

    Attributes:
        said: whether it agrees and what does not, or why it is not compared; a sentence.
        numbers: see :func:`manet_lib.report.agreement.measured_table`; without rows where nothing is compared.
    """

    said: str
    numbers: pd.DataFrame = field(default_factory=pd.DataFrame)


def beside_recorded(params: Params, paths: RunPaths) -> Beside:
    """A run beside the recorded one of its profile, if there is one that was made with the same settings."""
    record = recorded(paths)
    if record is None:
        return Beside(
            f"No results of profile {params.profile} come with the project, so there is nothing to compare with."
        )
    changed = other_settings(params, record)
    if changed:
        return Beside(f"Not compared with the recorded run, which has another {', '.join(changed)}.")
    exact, numbers = exact_table(params, paths, record), measured_table(params, paths, record)
    made = record["made"]
    where = f"figures/recorded/{params.profile}/, made on {made['device']} in {' and '.join(made['precision'])}"
    return Beside(f"{verdict(exact, numbers)} ({where})", numbers)
