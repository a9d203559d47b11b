"""Notebook 05: scores of heat maps beside their controls, faithfulness, and randomised weights."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from manet_lib.evaluation.statistics import crossed_interval
from manet_lib.params import Params
from manet_lib.paths import RunPaths
from manet_lib.report.style import backbone_panels, look_of, styled
from manet_lib.report.tables import Bounds, in_percent, model_title, patients_of, with_interval

_TITLES = {
    "share": "share of the map (%)",
    "covered": "covered (%)",
    "pointing": "highest position inside (%)",
    "precision": "average precision (%)",
}


def _regions(scores: pd.DataFrame) -> list[str]:
    return [region for region in ("lung", "lesion") if f"{region}_area" in scores]


def attention_table(scores: pd.DataFrame, controls: pd.DataFrame, params: Params) -> pd.DataFrame:
    """Scores of the heat maps by model, in percent, and below them those of two maps that do not depend on it.

    Args:
        scores: ``scores.csv`` of :func:`manet_lib.attention.scores.score_attention`.
        controls: ``controls.csv``.
        params: of the run.

    Returns:
        Rows of models, of a blob in the middle of the image, and of a map without preference, which has the
        region's area as its share, pointing and precision.
    """
    rows = []
    for model in [name for name in params.models if name in set(scores["model"])]:
        part = scores[scores["model"] == model]
        rows.append({"Map": model_title(model)} | _means(part) | {"Maps of zeros": str(int(part["empty"].sum()))})
    blob = controls[controls["control"] == "centre blob"]
    rows.append({"Map": "a blob in the middle"} | _means(blob) | {"Maps of zeros": "–"})
    blind: dict[str, Any] = {"Map": "no preference", "Images": len(blob)}
    for region in _regions(scores):
        area = f"{100 * blob[f'{region}_area'].mean():.1f}"
        blind |= {f"{region}s, {title}": "–" if name == "covered" else area for name, title in _TITLES.items()}
    return pd.DataFrame([*rows, blind | {"Maps of zeros": "–"}])


def _means(part: pd.DataFrame) -> dict[str, Any]:
    row: dict[str, Any] = {"Images": part["image_id"].nunique()}
    for region in _regions(part):
        row |= {
            f"{region}s, {title}": _mean(100 * part[f"{region}_{name}"].mean(), ".1f")
            for name, title in _TITLES.items()
        }
    return row


def paired_scores(first: pd.DataFrame, second: pd.DataFrame, column: str) -> pd.DataFrame:
    """A score minus that of another table: by trials that both have (rows) and images that are scored in all."""
    one, other = (table.pivot(index="trial", columns="image_id", values=column) for table in (first, second))
    trials = one.index.intersection(other.index)
    return (one.loc[trials] - other.loc[trials]).dropna(axis=1)


def _difference(first: pd.DataFrame, second: pd.DataFrame, column: str, paths: RunPaths) -> Bounds | None:
    """A score minus that of another table on the same images; None if there are none that both have."""
    both = paired_scores(first, second, column)
    return _over(both, paths) if both.size else None


def _points(bounds: Bounds | None) -> str:
    return in_percent(bounds, "+.1f") if bounds else "–"


def _over(differences: pd.DataFrame, paths: RunPaths) -> Bounds:
    """Mean and 95% interval of differences over trials (rows) and images (columns)."""
    return crossed_interval(differences.to_numpy(), patients_of(paths, differences.columns))


def attention_pairs(scores: pd.DataFrame, params: Params, paths: RunPaths) -> pd.DataFrame:
    """Scores with attention minus those of the plain network: points, with 95% intervals over images and trials.

    An image whose map is all zeros in one of the two, in any trial, is left out.
    """
    rows = []
    for model in params.models:
        base, _, kind = model.partition("_")
        first, second = (scores[scores["model"] == name] for name in (model, base))
        if kind and len(first) and len(second):
            row = {"Minus plain": model_title(model)}
            for region in _regions(scores):
                for name, title in _TITLES.items():
                    shown = title.replace(" (%)", "")
                    row[f"{region}s, {shown}"] = _points(_difference(first, second, f"{region}_{name}", paths))
            rows.append(row)
    return pd.DataFrame(rows)


_CONTROLS = {
    "Trained": "trained",
    "Untrained": "untrained",
    "Mismatched mask: in that mask": "that mask",
    "Mismatched mask: in the region": "mismatched mask",
}

_LESS = {"Trained minus untrained": "Untrained", "Trained minus mismatched mask": "Mismatched mask: in the region"}


def control_table(scores: pd.DataFrame, controls: pd.DataFrame, params: Params, paths: RunPaths) -> pd.DataFrame:
    """What share of the map lies in a region by construction: trained networks beside their controls, in percent.

    All numbers of a row are means over the same images: those whose map is all zeros in none of the columns.

    Args:
        scores: see :func:`attention_table`.
        controls: see :func:`attention_table`.
        params: of the run.
        paths: of the run.

    Returns:
        One row for each model and region. What the trained network has beyond the untrained one, in points with a
        95% interval, is what training has added; what it has beyond itself with mismatched mask depends on the
        mask.
    """
    rows = []
    for model in [name for name in params.models if name in set(scores["model"])]:
        parts = dict(list(controls[controls["model"] == model].groupby("control")))
        parts["trained"] = scores[scores["model"] == model]
        zeros = [str(int(parts[name]["empty"].sum())) for name in ("trained", "untrained", "mismatched mask")]
        for region in _regions(scores):
            row = {"Model": model_title(model), "Region": f"{region}s"}
            row |= {"Maps of zeros: trained, untrained, mismatched mask": ", ".join(zeros)}
            rows.append(row | _controlled(parts, f"{region}_share", paths))
    return pd.DataFrame(rows)


def _controlled(parts: Mapping[str, pd.DataFrame], column: str, paths: RunPaths) -> dict[str, Any]:
    known = [title for title, name in _CONTROLS.items() if parts[name][column].notna().any()]
    if not {"Trained", "Untrained"} <= set(known):  # maps of zeros alone, or no image with such a region
        return {"Images": 0} | dict.fromkeys([*_CONTROLS, *_LESS], "–")
    keys = ["trial", "image_id"]
    wide = pd.concat([parts[_CONTROLS[title]].set_index(keys)[column].rename(title) for title in known], axis=1)
    values = 100 * wide.unstack("trial").dropna().stack("trial", future_stack=True)
    row: dict[str, Any] = {"Images": values.index.get_level_values("image_id").nunique()}
    row |= {title: f"{values[title].mean():.1f}" if title in known and len(values) else "–" for title in _CONTROLS}
    for title, other in _LESS.items():
        row[title] = "–"
        if other in known and len(values):
            differences = (values["Trained"] - values[other]).unstack("image_id")
            row[title] = with_interval(*_over(differences, paths), "+.1f")
    return row


def faithfulness_table(probes: pd.DataFrame, params: Params, paths: RunPaths) -> pd.DataFrame:
    """Whether the network needs what its maps show.

    Args:
        probes: ``faithfulness.csv`` of :func:`manet_lib.attention.probes.probe_attention`.
        params: of the run.
        paths: of the run.

    Returns:
        Mean probability of the true class, in percent, while patches of the lungs are removed or shown in the
        order of the map, minus that in a random order; and ROAD. Maps that show what matters have a deletion
        below 0, an insertion and a ROAD above.
    """
    rows = []
    for model in [name for name in params.models if name in set(probes["model"])]:
        part = probes[probes["model"] == model]
        row: dict[str, Any] = {"Model": model_title(model), "Images": part["image_id"].nunique()}
        for name in ("deletion", "insertion"):
            chance = part.drop(columns=name).rename(columns={f"{name}_chance": name})
            row[f"{name.capitalize()} minus random"] = _points(_difference(part, chance, name, paths))
        row["ROAD"] = _points(_difference(part, part.assign(road=0.0), "road", paths))
        rows.append(row)
    return pd.DataFrame(rows)


def sanity_means(sanity: pd.DataFrame) -> pd.DataFrame:
    """Mean similarity by model and randomised stages: columns model, stages, similarity; without maps of zeros."""
    return sanity.groupby(["model", "stages"], sort=False)["similarity"].mean().reset_index()


def sanity_table(sanity: pd.DataFrame, paths: RunPaths) -> pd.DataFrame:
    """How alike maps stay as more and more weights are re-initialised, beside maps of different images.

    Args:
        sanity: ``sanity.csv`` of :func:`manet_lib.attention.probes.probe_attention`.
        paths: of the run.

    Returns:
        One row for each model: mean similarity of maps of different images, that after each number of stages, what
        is left in the end beyond different images (with a 95% interval over images), after which stages it is
        significantly above these, and how many maps have no order to compare, as all their positions are alike.
    """
    rows = []
    for model, part in sanity.groupby("model", sort=False):
        stages = sorted(set(part["stages"]) - {0})
        means = part.groupby("stages")["similarity"].mean()
        row = {"Model": model_title(str(model)), "Images": str(part["image_id"].nunique())}
        row |= {"Different images": _mean(means[0])} | {f"After {stage}": _mean(means[stage]) for stage in stages}
        of = dict(list(part.groupby("stages")))
        beyond = {stage: _difference(of[stage], of[0], "similarity", paths) for stage in stages}
        last = beyond[stages[-1]]
        row[f"After {stages[-1]} minus different images"] = with_interval(*last, "+.2f") if last else "–"
        row[_STILL] = ", ".join(str(stage) for stage, found in beyond.items() if found and found[1] > 0)
        row["Uniform maps, left out"] = str(int(part["similarity"].isna().sum()))
        rows.append(row)
    table = pd.DataFrame(rows).fillna("–")
    return table.assign(**{_STILL: table[_STILL].replace("", "none")})


_STILL = "Significantly above different images after"


def _mean(value: float, form: str = ".2f") -> str:
    return "–" if np.isnan(value) else f"{value:{form}}"


@styled
def sanity_figure(table: pd.DataFrame) -> Figure:
    """How alike maps stay to those of the trained network while its layers are re-initialised, from last to first.

    Args:
        table: from :func:`manet_lib.report.attention.sanity_means`; stage 0 holds unrelated maps, drawn dotted.
    """
    models = list(dict.fromkeys(table["model"]))
    figure, panels = backbone_panels(models, 3.1, 2.7, "similarity (rank correlation)")
    for model in models:
        similarity = table[table["model"] == model].set_index("stages")["similarity"]
        axes, look, later = panels[model.partition("_")[0]], look_of(model), similarity.drop(0)
        axes.plot([0, *later.index], [1, *later], marker="o", markersize=3, **look)
        axes.axhline(similarity.loc[0], color=look["color"], linestyle=":", linewidth=1)
    for axes in panels.values():
        axes.set(xlabel="groups of layers re-initialised, last first", ylim=(-1, 1.05))
        axes.legend(frameon=False, loc="lower left", ncols=3)
    return figure
