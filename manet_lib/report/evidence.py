"""What all recorded training runs say of the paper's claims: one column for each kind of evidence."""

import json
from typing import Any

import pandas as pd

from manet_lib.params import load_params
from manet_lib.paths import params_file, recorded_results
from manet_lib.report.claims import ROUNDS, Claim, Source, claims
from manet_lib.report.tables import published
from manet_lib.studies.analysis import effects
from manet_lib.studies.plan import load_study
from manet_lib.studies.training_records import read, records_file

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
    if claim.quantity == "size":
        return "supported: 20 of 20 cells" if kind == "phantoms" else "any image gives the same"
    if claim.quantity == "time":
        return _times() if kind == "phantoms" else "any image gives the same"
    if kind == "paper":
        lacking = claim.needs.lacking(load_params(params_file(_LARGEST_RUN)))
        return f"not tested: {lacking}" if lacking else "no study yet"
    return "–"


def of_study(source: Source, side: str) -> str:
    """What a study says of a claim: a verdict, then effect, interval and pairs in each condition and contrast.

    Args:
        source: where in which study.
        side: on which side of 0 the claim says that the difference lies, `above` or `below`.

    Returns:
        `supported`, `not supported`, `equivalent` or `undecided` where all conditions and contrasts agree, else
        `mixed`; then a colon and the numbers.
    """
    study, records = load_study(source.study), read(records_file(source.study))
    table = effects(study, records, source.quantity)
    wanted = table["contrast"].isin([f"{first} − {second}" for first, second in source.contrasts])
    wanted &= table["condition"].isin(source.conditions or list(study.conditions)) & (table["pairs"] > 0)
    if source.quantity == study.quantity:
        wanted &= table["test"] == source.test
    rows = table[wanted].to_dict("records")
    if not rows:
        return f"undecided: no training runs yet (study {source.study})"
    holds = {"higher": side == "above", "lower": side == "below"}
    verdicts = [
        ("supported" if holds[row["verdict"]] else "not supported") if row["verdict"] in holds else row["verdict"]
        for row in rows
    ]
    same = len(set(verdicts)) == 1
    shown = [_shown(row) + ("" if same else f", {said}") for row, said in zip(rows, verdicts, strict=True)]
    return f"{verdicts[0] if same else 'mixed'}: {'; '.join(shown)}"


def _shown(row: dict[str, Any]) -> str:
    where = f"{row['contrast']}, {row['condition']}: "
    if row["pairs"] < 2:
        return f"{where}one pair of training runs"
    lacking = f", about {row['needed']} needed" if row["verdict"] == "undecided" else ""
    effect = f"{row['difference']:+.1f} ({row['low']:.1f} to {row['high']:.1f})"
    return f"{where}{effect}, {row['pairs']} pairs{lacking}"


def _times() -> str:
    """The recorded running times, each network against the figure that the paper prints for it."""
    found = json.loads((recorded_results("mask_attention-cpu-128.json")).read_text(encoding="utf-8"))
    printed = published("table3_cost").set_index("model")["time_increase_pct"]
    measured = {row["model"]: row for row in found["results"] if row["model"].endswith("_ma")}
    above = [name for name, row in measured.items() if row["interval_95"][1] > float(printed[name])]
    shown = ", ".join(f"{row['increase_pct']:+.1f}%" for row in measured.values())
    return f"{'undecided' if above else 'supported'}: {shown} (on a CPU at 128 px, {ROUNDS} rounds)"
