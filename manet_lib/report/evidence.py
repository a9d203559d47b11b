"""What all recorded training runs say about the paper's claims: a table by kind of evidence, and a figure."""

import json
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from manet_lib.params import load_params
from manet_lib.paths import DEFAULT_PROFILE, RunPaths, params_file, recorded_results
from manet_lib.report.claims import ROUNDS, Claim, Source, claims
from manet_lib.report.cost import printed_cells
from manet_lib.report.style import described, styled
from manet_lib.report.tables import model_title, published, with_interval
from manet_lib.studies.analysis import MOST, effects, with_records
from manet_lib.studies.plan import load_study

KINDS = {"phantoms": "Phantoms", "external": "TB in another hospital", "paper": "The paper's radiographs"}
"""Kinds of evidence: synthetic images; real radiographs whose classes come from both of two hospitals; and real
radiographs from the paper's sources, whose classes come from different hospitals."""

_COLOURS = {"phantoms": "#4477aa", "external": "#228833", "paper": "#ee6677"}

_LARGEST_RUN = "cxr_sample"


def evidence_table() -> pd.DataFrame:
    """Every claim with what each kind of evidence says: verdict, effect with 95% interval, number of pairs."""
    said = {title: [_cell(claim, kind) for claim in claims()] for kind, title in KINDS.items()}
    return pd.DataFrame({"Claim": [claim.claim for claim in claims()]} | said)


def _cell(claim: Claim, kind: str) -> str:
    if kind in claim.studies:
        return of_study(claim.studies[kind], claim.side)
    if claim.quantity in ("size", "time"):
        found = _counts if claim.quantity == "size" else _times
        return found() if kind == "phantoms" else "does not depend on the images"
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
    rows, whole = _rows(source)
    if not rows:
        return f"not run yet: study {source.study}"
    words = {"higher": "supported", "lower": "not supported"}
    if side == "below":
        words = {"higher": "not supported", "lower": "supported"}
    verdicts = [words.get(row["verdict"], row["verdict"]) for row in rows]
    same = len(set(verdicts)) == 1
    shown = [_shown(row) + ("" if same else f", {said}") for row, said in zip(rows, verdicts, strict=True)]
    note = f" ({source.note})" if source.note else ""
    return f"{verdicts[0] if same else 'undecided'}{'' if whole else ' so far'}: {'; '.join(shown)}{note}"


def _rows(source: Source) -> tuple[list[dict[str, Any]], bool]:
    """The effects that a source names, as far as they are recorded, and whether all that are planned are."""
    study, records = with_records(source.study)
    table = effects(study, records, source.quantity)
    conditions = source.conditions or list(study.conditions)
    wanted = table["contrast"].isin([f"{first} − {second}" for first, second in source.contrasts])
    wanted &= table["condition"].isin(conditions) & (table["pairs"] > 0)
    if source.quantity == study.quantity:
        wanted &= table["test"] == source.test
    rows = table[wanted].to_dict("records")
    planned = len(rows) == len(conditions) * len(source.contrasts)
    return rows, planned and all(row["pairs"] >= study.pairs for row in rows)


@styled
def effects_figure() -> Figure:
    """What MA adds to accuracy, or to the AUC outside, in every recorded study of a claim, with 95% intervals.

    The axis shows 45 points to either side of 0; what lies beyond is written at its edge.
    """
    shown, widest = [], 45.0
    for claim in claims():
        for kind, source in claim.studies.items():
            if source.quantity in ("accuracy", "auc"):
                (network,) = {arm.model.partition("_")[0] for arm in load_study(source.study).arms.values()}
                shown += [(kind, f"{model_title(network)}, {_place(row)}", row) for row in _rows(source)[0]]
    shown = [one for one in shown if np.isfinite(one[2]["low"])]
    figure, axes = plt.subplots(figsize=(7.2, 0.6 + 0.27 * len(shown)), layout="constrained")
    for place, (kind, _, row) in enumerate(shown):
        mean, ends = row["difference"], [[row["difference"] - row["low"]], [row["high"] - row["difference"]]]
        colour = _COLOURS[kind]
        axes.errorbar([mean], [place], xerr=ends, fmt="o", markersize=4, color=colour)
        if abs(mean) > widest:
            edge, side = np.sign(mean) * widest, "left" if mean < 0 else "right"
            axes.text(edge, place, f" {mean:+.0f} ", ha=side, va="center", color=colour)
    axes.axvline(0, color="grey", linewidth=0.8)
    axes.set(yticks=range(len(shown)), yticklabels=[label for _, label, _ in shown], xlim=(-widest, widest))
    axes.set(ylim=(len(shown) - 0.5, -0.5), xlabel="MA minus plain (points of accuracy or AUC)")
    axes.grid(alpha=0.25, axis="x")
    kinds = dict.fromkeys(kind for kind, _, _ in shown)
    handles = [Line2D([], [], marker="o", color=_COLOURS[kind], label=KINDS[kind]) for kind in kinds]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
    said = [f"{label}: {_effect(row)}" for _, label, row in shown]
    return described(figure, f"MA minus plain, points. {'. '.join(said)}")


def _place(row: dict[str, Any]) -> str:
    named = [] if row["contrast"] == "MA − plain" else [row["contrast"].split()[0]]
    named += [row["condition"]] + ([row["test"]] if row["test"] not in ("as trained", "outside") else [])
    return f"{', '.join(named)} ({row['pairs']} pairs)"


def _shown(row: dict[str, Any]) -> str:
    where = f"{row['contrast']}, {row['condition']}: "
    if not np.isfinite(row["low"]):
        return f"{where}{row['pairs']} pair{'s' * (row['pairs'] > 1)}, no interval"
    needed = f"about {row['needed']}" if row["needed"] < MOST else f"{MOST} or more"
    lacking = f", {needed} needed" if row["verdict"] == "undecided" else ""
    return f"{where}{_effect(row)}, {row['pairs']} pairs{lacking}"


def _effect(row: dict[str, Any]) -> str:
    return with_interval(row["difference"], row["low"], row["high"], "+.1f")


def _counts() -> str:
    """How many cells of the recorded Table 3 are the printed ones."""
    same, cells = printed_cells(pd.read_csv(RunPaths.of(DEFAULT_PROFILE).recorded / "table3.csv", dtype=str))
    return f"{'supported' if same == cells else 'not supported'}: {same} of {cells} cells"


def recorded_times() -> pd.DataFrame:
    """By how many percent attention lengthens a training step, as recorded on a CPU at 128 pixels.

    Returns:
        Indexed by model: increase (median), low, high (95% interval), rounds and paper, the printed figure.
    """
    record = json.loads(recorded_results("mask_attention-cpu-128.json").read_text(encoding="utf-8"))
    printed = pd.to_numeric(published("table3_cost").set_index("model")["time_increase_pct"], errors="coerce")
    seconds = record["seconds_of_each_round"]
    rows = {
        row["model"]: [row["increase_pct"], *row["interval_95"], len(seconds[row["model"]]), printed[row["model"]]]
        for row in record["results"]
    }
    columns = ["increase", "low", "high", "rounds", "paper"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).astype({"rounds": int})


def _times() -> str:
    """The recorded running times, each network against the figure that the paper prints for it."""
    table = recorded_times()
    table = table[table.index.str.endswith("_ma")]
    shown = ", ".join(
        f"{model_title(name.removesuffix('_ma'))} {row['increase']:+.1f}% ({row['low']:.1f} to {row['high']:.1f})"
        for name, row in table.iterrows()
    )
    rounds, said = int(table["rounds"].min()), "undecided"
    if rounds >= ROUNDS and (table["high"] <= table["paper"]).all():
        said = "supported"
    elif rounds >= ROUNDS and (table["low"] > table["paper"]).any():
        said = "not supported"
    return f"{said} on a CPU at 128 px, {rounds} rounds: {shown} (GPUs and 512 px are not measured)"
