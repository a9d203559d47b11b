"""What all recorded training runs say of the paper's claims: one column for each kind of evidence."""

import json

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
    """What a study says of a claim, by contrast and condition where there are several.

    Args:
        source: where in which study.
        side: on which side of 0 the claim says that the difference lies, `above` or `below`.
    """
    study, records = load_study(source.study), read(records_file(source.study))
    table = effects(study, records, source.quantity)
    names = [f"{first} − {second}" for first, second in source.contrasts]
    table = table[table["contrast"].isin(names)]
    if source.quantity in ("accuracy", "auc"):
        table = table[table["test"] == source.test]
    table = table[table["pairs"] > 0]
    if table.empty:
        return f"undecided: no training runs yet (study {source.study})"
    many = {key: table[key].nunique() > 1 for key in ("condition", "contrast")}
    parts = []
    for row in table.itertuples():
        where = [str(getattr(row, key)) for key, several in many.items() if several]
        parts.append(f"{', '.join(where)}: {_said(row, side)}" if where else _said(row, side))
    return "; ".join(parts)


def _said(row: object, side: str) -> str:
    values = row._asdict()  # type: ignore[attr-defined]
    if values["pairs"] < 2:
        return "undecided: one pair of training runs"
    holds = {"higher": side == "above", "lower": side == "below"}
    verdict = values["verdict"]
    if verdict in holds:
        verdict = "supported" if holds[verdict] else "not supported"
    lacking = f", about {values['needed']:.0f} needed" if verdict == "undecided" and values["needed"] else ""
    shown = f"{values['difference']:+.1f} ({values['low']:.1f} to {values['high']:.1f})"
    return f"{verdict}: {shown}, {values['pairs']:.0f} pairs{lacking}"


def _times() -> str:
    """The recorded running times, each network against the figure that the paper prints for it."""
    found = json.loads((recorded_results("mask_attention-cpu-128.json")).read_text(encoding="utf-8"))
    printed = published("table3_cost").set_index("model")["time_increase_pct"]
    measured = {row["model"]: row for row in found["results"] if row["model"].endswith("_ma")}
    above = [name for name, row in measured.items() if row["interval_95"][1] > float(printed[name])]
    shown = ", ".join(f"{row['increase_pct']:+.1f}%" for row in measured.values())
    return f"{'undecided' if above else 'supported'} on a CPU at 128 px: {shown}, {ROUNDS} rounds"
