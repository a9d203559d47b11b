"""Tables of heat maps: their scores beside what knows nothing, the controls, and the probes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from manet_lib.evaluation.statistics import crossed_interval
from manet_lib.params import Params
from manet_lib.paths import RunPaths
from manet_lib.report.tables import model_title, patients_of

_TITLES = {
    "share": "share of the map (%)",
    "covered": "covered (%)",
    "pointing": "highest place inside (%)",
    "precision": "average precision (%)",
}


def _regions(scores: pd.DataFrame) -> list[str]:
    return [region for region in ("lung", "lesion") if f"{region}_area" in scores]


def attention_table(scores: pd.DataFrame, controls: pd.DataFrame, params: Params) -> pd.DataFrame:
    """Scores of the heat maps by model, in percent, and below them those of two maps that know nothing of it.

    Args:
        scores: ``scores.csv`` of :func:`manet_lib.attention.scores.score_attention`.
        controls: ``controls.csv``.
        params: of the run.

    Returns:
        Rows of models, of a blob in the middle of the film, and of a map without preference, which has the
        region's area as its share, pointing and precision.
    """
    rows = []
    for model in [name for name in params.models if name in set(scores["model"])]:
        part = scores[scores["model"] == model]
        rows.append({"Map": model_title(model)} | _means(part) | {"Maps of zeros": str(int(part["empty"].sum()))})
    blob = controls[controls["control"] == "centre blob"]
    rows.append({"Map": "a blob in the middle"} | _means(blob) | {"Maps of zeros": "–"})
    blind: dict[str, Any] = {"Map": "no preference", "Films": len(blob)}
    for region in _regions(scores):
        area = f"{100 * blob[f'{region}_area'].mean():.1f}"
        blind |= {f"{region}s, {title}": "–" if name == "covered" else area for name, title in _TITLES.items()}
    return pd.DataFrame([*rows, blind | {"Maps of zeros": "–"}])


def _means(part: pd.DataFrame) -> dict[str, Any]:
    row: dict[str, Any] = {"Films": part["image_id"].nunique()}
    for region in _regions(part):
        row |= {
            f"{region}s, {title}": f"{100 * part[f'{region}_{name}'].mean():.1f}"
            for name, title in _TITLES.items()
        }
    return row


def paired_scores(first: pd.DataFrame, second: pd.DataFrame, column: str) -> pd.DataFrame:
    """A score less that of another table: by trials that both have (rows) and films that are scored in all."""
    one, other = (table.pivot(index="trial", columns="image_id", values=column) for table in (first, second))
    trials = one.index.intersection(other.index)
    return (one.loc[trials] - other.loc[trials]).dropna(axis=1)


def _difference(first: pd.DataFrame, second: pd.DataFrame, column: str, paths: RunPaths) -> str:
    """Mean of a score less that of another table, on the same films in the same trials, and its 95% interval."""
    both = paired_scores(first, second, column)
    if not both.size:
        return "–"
    mean, low, high = crossed_interval(100 * both.to_numpy(), patients_of(paths, both.columns))
    return f"{mean:+.1f} ({low:+.1f} to {high:+.1f})"


def attention_pairs(scores: pd.DataFrame, params: Params, paths: RunPaths) -> pd.DataFrame:
    """Scores with attention less those of the plain network, in points, with 95% intervals over films and trials.

    A film whose map is all zeros in one of the two, in any trial, is left out.
    """
    rows = []
    for model in params.models:
        base, _, kind = model.partition("_")
        first, second = (scores[scores["model"] == name] for name in (model, base))
        if kind and len(first) and len(second):
            row = {"Less plain": model_title(model)}
            for region in _regions(scores):
                for name, title in _TITLES.items():
                    shown = title.replace(" (%)", "")
                    row[f"{region}s, {shown}"] = _difference(first, second, f"{region}_{name}", paths)
            rows.append(row)
    return pd.DataFrame(rows)


def control_table(scores: pd.DataFrame, controls: pd.DataFrame, params: Params, paths: RunPaths) -> pd.DataFrame:
    """What share of the map lies in the lungs by construction: trained networks beside their controls, in percent.

    The last column, the trained network less the untrained, is what training has added.
    """
    rows = []
    for model in [name for name in params.models if name in set(scores["model"])]:
        own = scores[scores["model"] == model]
        parts = dict(list(controls[controls["model"] == model].groupby("control")))
        row = {"Model": model_title(model), "Trained": f"{100 * own['lung_share'].mean():.1f}"}
        for name, title in (
            ("untrained", "Untrained"),
            ("that mask", "Another film's mask: in that mask"),
            ("another film's mask", "Another film's mask: in the lungs"),
        ):
            row[title] = f"{100 * parts[name]['lung_share'].mean():.1f}"
        row["Trained less untrained"] = _difference(own, parts["untrained"], "lung_share", paths)
        rows.append(row)
    return pd.DataFrame(rows)


def faithfulness_table(probes: pd.DataFrame, params: Params, paths: RunPaths) -> pd.DataFrame:
    """Whether the network needs what its maps show.

    Args:
        probes: ``faithfulness.csv`` of :func:`manet_lib.attention.probes.probe_attention`.
        params: of the run.
        paths: of the run.

    Returns:
        Mean probability of the true class, in percent, while places of the lungs are removed or shown in the
        order of the map, less that in a random order; and ROAD. Maps that show what matters have a deletion
        below 0, an insertion and a ROAD above.
    """
    rows = []
    for model in [name for name in params.models if name in set(probes["model"])]:
        part = probes[probes["model"] == model]
        row: dict[str, Any] = {"Model": model_title(model), "Films": part["image_id"].nunique()}
        for name in ("deletion", "insertion"):
            chance = part.drop(columns=name).rename(columns={f"{name}_chance": name})
            row[f"{name.capitalize()} less random"] = _difference(part, chance, name, paths)
        row["ROAD"] = _difference(part, part.assign(road=0.0), "road", paths)
        rows.append(row)
    return pd.DataFrame(rows)


def sanity_means(sanity: pd.DataFrame) -> pd.DataFrame:
    """Mean similarity by model and randomised stages: columns model, stages, similarity; without maps of zeros."""
    return sanity.groupby(["model", "stages"], sort=False)["similarity"].mean().reset_index()


def sanity_in_words(sanity: pd.DataFrame) -> str:
    """How alike maps stay when all weights are drawn anew, and those of two films are, for each model."""
    said = []
    for model, part in sanity_means(sanity).groupby("model", sort=False):
        by_stage = part.set_index("stages")["similarity"]
        last, unrelated = by_stage.iloc[-1], by_stage.loc[0]
        verdict = "more" if last > unrelated else "no more"
        said.append(
            f"{model_title(str(model))}: with all weights drawn anew the similarity to its own maps is "
            f"{last:.2f}, {verdict} than that of maps of different films ({unrelated:.2f})."
        )
    return " ".join(said)


def repeats_in_words(alike: Mapping[str, Sequence[float]]) -> str:
    """How alike the maps of the same film are in two trials, for each network that has several.

    Args:
        alike: similarities of pairs of maps, by model with several trials; see
            :func:`manet_lib.attention.probes.repeatability`.
    """
    if not alike:
        return "Each network was trained once, so no map can be compared with that of another training."
    parts = [f"{model_title(model)} {np.mean(values):.2f}" for model, values in alike.items()]
    return f"Maps of the same film in two trials are alike (rank correlation) by: {', '.join(parts)}."


def attention_in_words(scores: pd.DataFrame, controls: pd.DataFrame) -> str:
    """How far the maps of each network lean to lungs and lesions, beside what knows nothing, in sentences.

    Args:
        scores: see :func:`attention_table`.
        controls: see :func:`attention_table`.
    """
    blob = controls[controls["control"] == "centre blob"]
    said = []
    for region in _regions(scores):
        area, chance = (100 * blob[f"{region}_{name}"].mean() for name in ("area", "share"))
        shares = 100 * scores.groupby("model", sort=False)[f"{region}_share"].mean()
        parts = ", ".join(f"{model_title(str(model))} {share:.0f}%" for model, share in shares.items())
        above = [model_title(str(model)) for model, share in shares.items() if share > max(area, chance)]
        said.append(
            f"Share of the map in the {region}s: {parts}; a map without preference {area:.0f}%, a blob in the "
            f"middle {chance:.0f}%. Above both: {', '.join(above) or 'none'}."
        )
    return " ".join(said)
