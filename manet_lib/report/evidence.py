"""What all recorded training runs say about the paper's claims: one column for each kind of evidence."""

import json
from typing import Any

import numpy as np
import pandas as pd

from manet_lib.params import load_params
from manet_lib.paths import DEFAULT_PROFILE, RunPaths, params_file, recorded_results
from manet_lib.report.claims import ROUNDS, Claim, Source, claims
from manet_lib.report.tables import published
from manet_lib.studies.analysis import MOST, effects, with_records

KINDS = {
    "phantoms": "Phantoms",
    "external": "TB in another hospital",
    "paper": "The paper's radiographs",
}
"""Kinds of evidence: synthetic images; real radiographs whose classes come from both of two hospitals; and real
radiographs from the paper's sources, whose classes come from different hospitals."""

_LARGEST_RUN = "cxr_sample"


def evidence_table() -> pd.DataFrame:
    """Every claim with what each kind of evidence says: verdict, effect with 95% interval, number of pairs."""
    rows = []
    for claim in claims():
        rows.append({"Claim": claim.claim} | {title: _cell(claim, kind) for kind, title in KINDS.items()})
    return pd.DataFrame(rows)


def _cell(claim: Claim, kind: str) -> str:
    if kind in claim.studies:
        return of_study(claim.studies[kind], claim.side)
    if claim.quantity in ("size", "time"):
        found = _counts if claim.quantity == "size" else _times
        return found() if kind == "phantoms" else "any image gives the same"
    if kind == "paper":
        lacking = claim.needs.lacking(load_params(params_file(_LARGEST_RUN)))
        return f"not tested: {lacking}" if lacking else "no study yet"
    return "–"


def of_study(source: Source, side: str) -> str:
    """What a study says about a claim: a verdict, then effect, interval and pairs in each condition and contrast.

    Args:
        source: where in which study.
        side: on which side of 0 the claim says that the difference lies, `above` or `below`.

    Returns:
        `supported`, `not supported` or `equivalent` where this holds in all conditions and contrasts, as the rules
        of the studies ask, else `undecided`; then "so far" until all pairs that the study plans are there, a colon
        and the numbers.
    """
    study, records = with_records(source.study)
    table = effects(study, records, source.quantity)
    conditions = source.conditions or list(study.conditions)
    wanted = table["contrast"].isin([f"{first} − {second}" for first, second in source.contrasts])
    wanted &= table["condition"].isin(conditions) & (table["pairs"] > 0)
    if source.quantity == study.quantity:
        wanted &= table["test"] == source.test
    rows = table[wanted].to_dict("records")
    if not rows:
        return f"not run yet: study {source.study}"
    holds = {"higher": side == "above", "lower": side == "below"}
    verdicts = [
        ("supported" if holds[row["verdict"]] else "not supported") if row["verdict"] in holds else row["verdict"]
        for row in rows
    ]
    same = len(set(verdicts)) == 1
    whole = len(rows) == len(conditions) * len(source.contrasts)
    whole = whole and all(row["pairs"] >= study.pairs for row in rows)
    shown = [_shown(row) + ("" if same else f", {said}") for row, said in zip(rows, verdicts, strict=True)]
    note = f" ({source.note})" if source.note else ""
    return f"{verdicts[0] if same else 'undecided'}{'' if whole else ' so far'}: {'; '.join(shown)}{note}"


def _shown(row: dict[str, Any]) -> str:
    where = f"{row['contrast']}, {row['condition']}: "
    if not np.isfinite(row["low"]):
        return f"{where}{row['pairs']} pair{'s' * (row['pairs'] > 1)}, no interval"
    needed = f"about {row['needed']}" if row["needed"] < MOST else f"{MOST} or more"
    lacking = f", {needed} needed" if row["verdict"] == "undecided" else ""
    effect = f"{row['difference']:+.1f} ({row['low']:.1f} to {row['high']:.1f})"
    return f"{where}{effect}, {row['pairs']} pairs{lacking}"


def _counts() -> str:
    """How many cells of the recorded Table 3 are the printed ones."""
    table = pd.read_csv(RunPaths.of(DEFAULT_PROFILE).recorded / "table3.csv", dtype=str)
    columns = ("Params", "FLOPs")
    same = sum(int((table[f"{name} (M)"] == table[f"{name}, paper"]).sum()) for name in columns)
    cells = len(columns) * len(table)
    return f"{'supported' if same == cells else 'not supported'}: {same} of {cells} cells"


def recorded_times() -> pd.DataFrame:
    """By how many percent attention lengthens a training step, as recorded on a CPU at 128 pixels.

    Returns:
        Indexed by model: increase (median), low, high (95% interval) and paper, the figure that the paper prints.
    """
    found = json.loads(recorded_results("mask_attention-cpu-128.json").read_text(encoding="utf-8"))["results"]
    printed = pd.to_numeric(published("table3_cost").set_index("model")["time_increase_pct"], errors="coerce")
    rows = {row["model"]: [row["increase_pct"], *row["interval_95"], printed[row["model"]]] for row in found}
    return pd.DataFrame.from_dict(rows, orient="index", columns=["increase", "low", "high", "paper"])


def _times() -> str:
    """The recorded running times, each network against the figure that the paper prints for it."""
    table = recorded_times()
    table = table[table.index.str.endswith("_ma")]
    shown = ", ".join(f"{value:+.1f}%" for value in table["increase"])
    if (table["high"] <= table["paper"]).all():
        said = "supported"
    else:
        said = "not supported" if (table["low"] > table["paper"]).any() else "undecided"
    return f"{said}: {shown} (on a CPU at 128 px, {ROUNDS} rounds)"
