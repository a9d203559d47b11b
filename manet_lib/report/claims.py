"""The paper's claims, each with the quantity and test that decide it, and what a run says about them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from typing import Literal

import numpy as np
import pandas as pd
import yaml
from pydantic import BaseModel, ConfigDict

from manet_lib.evaluation.metrics import late_jumps
from manet_lib.evaluation.paired import compare
from manet_lib.evaluation.statistics import crossed_interval, share_interval, student_interval
from manet_lib.params import MODELS, Params
from manet_lib.paths import RunPaths, reproduce_command
from manet_lib.report.attention import paired_scores
from manet_lib.report.audit import confused
from manet_lib.report.cost import count_table, printed_cells
from manet_lib.report.tables import (
    logs,
    model_title,
    patients_of,
    predictions_of,
    published,
    right_by_trial,
    trained_models,
    with_interval,
)
from manet_lib.training.timing import increase
from manet_lib.workflow.records import read_table
from manet_lib.workflow.steps import attention_step, cost_step, grid, segmentation_step


class Needs(BaseModel):
    """What a run must have at least, so that a number of the paper can be expected of it."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    image_size: int = 0
    epochs: int = 0
    paper_images: bool = False

    def lacking(self, params: Params) -> str:
        """What a run lacks, in words; nothing where it has all."""
        short = [
            f"{value} instead of {needed} {unit}"
            for value, needed, unit in (
                (params.image_size, self.image_size, "pixels"),
                (params.epochs, self.epochs, "epochs"),
            )
            if value < needed
        ]
        return ", ".join(short + ["not the paper's images"] * (self.paper_images and not params.published))


class Source(BaseModel):
    """A study, and where in it a claim is decided.

    Attributes:
        study: its name.
        contrasts: pairs of arms, each of which has to decide alike.
        test: on which images.
        conditions: those that count; all, if not given.
        quantity: `accuracy`, `auc`, `jumps` or `in_lungs`; see :func:`manet_lib.studies.analysis.measured`.
        note: what a reader has to know beside the numbers.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    study: str
    contrasts: list[list[str]] = [["MA", "plain"]]
    test: str = "as trained"
    conditions: list[str] = []
    quantity: Literal["accuracy", "auc", "jumps", "in_lungs"] = "accuracy"
    note: str = ""


class Claim(BaseModel):
    """A claim of the paper.

    Attributes:
        id: short name.
        claim: what is claimed, in one sentence.
        where: in the paper.
        quantity: what decides it, one of ``QUANTITIES``.
        model: which network it is about, if one.
        side: on which side of the margin the quantity is said to lie.
        margin: in the unit of the quantity.
        why: why this margin matters.
        needs: what a run must have to test it; less, and the claim is not tested.
        studies: by kind of evidence, the study that decides it; see :mod:`manet_lib.report.evidence`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    id: str
    claim: str
    where: str
    quantity: str
    model: str = ""
    side: Literal["above", "below"]
    margin: float
    why: str
    needs: Needs = Needs()
    studies: dict[Literal["phantoms", "external", "paper"], Source] = {}


@dataclass(frozen=True)
class Evidence:
    """A measured quantity and its 95% interval, in the claim's unit.

    ``shown`` is how it is printed; ``lacks``, if anything, what keeps it from deciding the claim.
    """

    value: float
    low: float
    high: float
    shown: str
    lacks: str = ""

    @classmethod
    def of(
        cls, value: float, low: float, high: float, unit: str, lacks: str = "", factor: float = 1.0
    ) -> Evidence:
        """Evidence that is printed with two decimals; the factor is that from the values to the unit."""
        value, low, high = factor * value, factor * low, factor * high
        return cls(value, low, high, f"{with_interval(value, low, high, '.2f')} {unit}", lacks)


def claims() -> list[Claim]:
    """All claims, in the order of the paper's results."""
    text = (files("manet_lib.report") / "published" / "claims.yaml").read_text(encoding="utf-8")
    return [Claim.model_validate(entry) for entry in yaml.safe_load(text)]


def _trials(params: Params, paths: RunPaths, *models: str) -> list[int]:
    done = trained_models(params, paths)
    return [trial for trial in params.trial_numbers if all((model, trial) in done for model in models)]


def _lacks_trials(trials: int) -> str:
    """One training run says nothing of a method: another one would give another value."""
    return "a second trial; the interval holds for one training run of each" if trials < 2 else ""


def _backbone(model: str) -> str:
    return model.partition("_")[0]


def _plain(claim: Claim) -> str:
    return _backbone(claim.model)


def _gain(claim: Claim, params: Params, paths: RunPaths) -> Evidence | str:
    trials = _trials(params, paths, claim.model, _plain(claim))
    if not trials:
        return f"{model_title(claim.model)} and {model_title(_plain(claim))} trained in one trial at least"
    first, patients = right_by_trial(paths, claim.model, trials)
    found = compare(first, right_by_trial(paths, _plain(claim), trials)[0], patients)
    return Evidence.of(*found.bounds, "points", _lacks_trials(len(trials)), 100)


def _accuracy(claim: Claim, params: Params, paths: RunPaths) -> Evidence | str:
    trials = _trials(params, paths, claim.model)
    if not trials:
        return f"{model_title(claim.model)} trained"
    share = share_interval(*right_by_trial(paths, claim.model, trials))
    return Evidence.of(*share, "%", _lacks_trials(len(trials)), 100)


def _pneumonias(claim: Claim, params: Params, paths: RunPaths) -> Evidence | str:
    trials = _trials(params, paths, claim.model)
    if not trials or not {"bp", "vp"} <= set(params.classes):
        return f"{model_title(claim.model)} trained on images of bp and vp"
    table = predictions_of(paths, claim.model, trials)
    table = table[table["label"].isin(["bp", "vp"])]
    if table.empty:
        return "test images of bp or vp"
    both = table.assign(confused=confused(table)).pivot(index="trial", columns="image_id", values="confused")
    share = share_interval(both.to_numpy(), patients_of(paths, both.columns))
    return Evidence.of(*share, "% of these images", _lacks_trials(len(trials)), 100)


def _jumps(claim: Claim, params: Params, paths: RunPaths) -> Evidence | str:
    trials = _trials(params, paths, claim.model, _plain(claim))
    if len(trials) < 2 or params.epochs < 12:
        return "two trials or more of 12 epochs or more, with and without MA"
    jumps = {pair: late_jumps(log)[0] for pair, log in logs(params, paths).items()}
    values = np.array([jumps[claim.model, trial] - jumps[_plain(claim), trial] for trial in trials])
    mean, half = student_interval(values)
    return Evidence.of(mean, mean - half, mean + half, "points from epoch to epoch, minus plain")


def _in_lungs(claim: Claim, params: Params, paths: RunPaths) -> Evidence | str:
    if not attention_step(params, paths, grid(params)).is_done():
        return "attention maps of all training runs"
    scores = read_table(paths.attention / "scores.csv")
    if "lung_share" not in scores:
        return "lung masks that are not empty"
    first, second = (scores[scores["model"] == name] for name in (claim.model, _plain(claim)))
    both = paired_scores(first, second, "lung_share")
    if not both.size:
        return f"{model_title(claim.model)} and {model_title(_plain(claim))} trained, with maps that are not zeros"
    bounds = crossed_interval(100 * both.to_numpy(), patients_of(paths, both.columns))
    return Evidence.of(*bounds, "points of the map's sum", _lacks_trials(len(both)))


def _time(claim: Claim, params: Params, paths: RunPaths) -> Evidence | str:
    if not cost_step(params, paths).is_done():
        return "measured running times"
    seconds = pd.read_csv(paths.cost / "seconds.csv").dropna(axis="columns", how="all")
    names = [name for name in seconds if name.endswith("_ma") and _backbone(name) in seconds]
    if not names:
        return "measured running times (cost_repeats)"
    printed = published("table3_cost").set_index("model")["time_increase_pct"]
    found = [np.subtract(increase(seconds, name, _backbone(name)), float(printed[name])) for name in names]
    missing = [model_title(name) for name in MODELS if name.endswith("_ma") and name not in names]
    lacks = f"running times of {', '.join(missing)}" if missing else ""
    if len(seconds) < ROUNDS:
        lacks = f"{ROUNDS} rounds of running times (cost_repeats)"
    value, low, high = np.max(found, axis=0)
    return Evidence.of(value, low, high, "points, measured minus printed, largest of the networks", lacks)


ROUNDS = 30
"""Of running times. With fewer, the interval of their median covers it too rarely: 76% of the time with three."""


def _size(claim: Claim, params: Params, paths: RunPaths) -> Evidence | str:
    if not cost_step(params, paths).is_done():
        return "counted parameters and FLOPs"
    same, cells = printed_cells(count_table(pd.read_csv(paths.cost / "counts.csv")))
    return Evidence(same, same, same, f"{same} of {cells} cells")


def _iou(claim: Claim, params: Params, paths: RunPaths) -> Evidence | str:
    if not segmentation_step(params, paths).is_done():
        return "stage 1 trained"
    values = 100 * pd.read_csv(paths.iou)["iou"].to_numpy()
    if len(values) < 2:
        return "a second test pair"
    mean, half = student_interval(values)
    return Evidence.of(mean, mean - half, mean + half, "% in one training run")


QUANTITIES: dict[str, Callable[[Claim, Params, RunPaths], Evidence | str]] = {
    "gain": _gain,
    "accuracy": _accuracy,
    "pneumonias": _pneumonias,
    "jumps": _jumps,
    "in_lungs": _in_lungs,
    "time": _time,
    "size": _size,
    "iou": _iou,
}
"""How each quantity is measured on a run: its evidence, or what is missing."""
OF_STUDIES = "generalisation"
"""The quantity of the claim that only studies can decide."""

_OF_ANY_DATA = ("size", "time")


def verdict(claim: Claim, evidence: Evidence | str, params: Params) -> str:
    """What a run says about a claim; on phantoms never more than that it is shown there."""
    lacking = claim.needs.lacking(params)
    if lacking:
        return f"not tested: {lacking}"
    if isinstance(evidence, str):
        return f"undecided: needs {evidence}"
    if evidence.lacks:
        return f"undecided: needs {evidence.lacks}"
    if not np.isfinite([evidence.low, evidence.high]).all():
        return "undecided: needs more test images for an interval"
    sign = 1 if claim.side == "above" else -1
    near, far = sorted((sign * (evidence.low - claim.margin), sign * (evidence.high - claim.margin)))
    if near <= 0 < far:
        return "undecided: the interval holds the margin"
    holds = near > 0
    if params.data_source == "phantom" and claim.quantity not in _OF_ANY_DATA:
        return "shown on phantoms" if holds else "not shown on phantoms"
    elsewhere = not params.at_paper_size and claim.quantity not in _OF_ANY_DATA
    return ("supported" if holds else "not supported") + (" on these images" if elsewhere else "")


def claims_table(params: Params, paths: RunPaths) -> pd.DataFrame:
    """Every claim that a single run can say something about, with what it says."""
    rows = []
    for claim in [one for one in claims() if one.quantity != OF_STUDIES]:
        evidence = QUANTITIES[claim.quantity](claim, params, paths)
        said, command = verdict(claim, evidence, params), f"`{reproduce_command(params.profile)}`"
        rows.append(
            {
                "Claim": claim.claim,
                "In the paper": claim.where,
                "Verdict": said,
                "Measured (95% interval)": "–" if isinstance(evidence, str) else evidence.shown,
                "Margin": f"{claim.side} {claim.margin:g}: {claim.why}",
                "Command": f"{command}, after adding what is missing" if ": needs " in said else command,
            }
        )
    return pd.DataFrame(rows)
