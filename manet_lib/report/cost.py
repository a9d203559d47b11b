"""Table 3: parameters, FLOPs and running time of all models, from what was measured."""

from __future__ import annotations

import pandas as pd

from manet_lib.params import Params
from manet_lib.paths import RunPaths
from manet_lib.report.tables import model_title, published
from manet_lib.training.loop import part_size
from manet_lib.training.timing import increase


def count_table(counts: pd.DataFrame) -> pd.DataFrame:
    """Parameters and FLOPs of all models at 512×512, the printed cells of the paper's ten beside them (Table 3).

    The counts depend on no data, so the printed numbers are a fair comparison in every run.

    Args:
        counts: from :func:`manet_lib.training.cost.counts`.
    """
    printed = published("table3_cost").set_index("model").reindex(counts["model"]).fillna("–")

    def millions(column: str) -> list[str]:
        return [f"{value / 1e6:.2f}" for value in counts[column]]

    return pd.DataFrame(
        {
            "Model": counts["model"].map(model_title),
            "Params (M)": millions("params"),
            "Params, paper": printed["params_m"].tolist(),
            "FLOPs (M)": millions("flops"),
            "FLOPs, paper": printed["flops_m"].tolist(),
            "Pooled mask elements": counts["pooled_mask_elements"],
            "Params by fvcore (M)": millions("fvcore_params"),
            "FLOPs by fvcore (M)": millions("fvcore_flops"),
        }
    )


def fvcore_in_words(counts: pd.DataFrame) -> str:
    """Where the rule and fvcore's counter are furthest apart, in a sentence.

    Args:
        counts: from :func:`count_table`.
    """
    table = counts.set_index("Model")
    less = table["FLOPs (M)"].astype(float) - table["FLOPs by fvcore (M)"].astype(float)
    same = int((table["Params (M)"] == table["Params by fvcore (M)"]).sum())
    return (
        f"fvcore counts as many parameters in {same} of {len(table)} networks, and fewer FLOPs by "
        f"{less.min():.2f} to {less.max():.2f} million ({less.idxmin()}, {less.idxmax()})."
    )


def time_table(params: Params, paths: RunPaths) -> pd.DataFrame:
    """Seconds per training step and increase over the plain model (Table 3).

    The paper's increase stands beside it in a run on the paper's data, at its size and with its 16 films on each
    device. No rows where ``cost_repeats`` is 0.
    """
    printed = published("table3_cost").set_index("model")["time_increase_pct"]
    beside = params.at_paper_size and part_size(params, params.batch_size) == 16
    seconds = pd.read_csv(paths.cost / "seconds.csv").dropna(axis="columns", how="all")
    rows = []
    for name in seconds.columns:
        base = name.partition("_")[0]
        row = {
            "Model": model_title(name),
            "Median step (ms)": f"{1000 * seconds[name].median():.0f}",
            "Quartiles (ms)": " to ".join(f"{1000 * seconds[name].quantile(q):.0f}" for q in (0.25, 0.75)),
            "Increase (%)": "–",
            "95% interval": "–",
        }
        if name != base and base in seconds:
            median, low, high = increase(seconds, name, base)
            row |= {"Increase (%)": f"{median:.2f}", "95% interval": f"{low:.2f} to {high:.2f}"}
        if beside:
            row["Increase, paper (%)"] = printed.get(name) or "–"
        rows.append(row)
    return pd.DataFrame(rows)


def added_in_words(counts: pd.DataFrame) -> str:
    """What mask attention and CBAM add to the parameters and FLOPs of the plain networks, in a sentence.

    Args:
        counts: from :func:`count_table`.
    """
    numbers = counts.set_index("Model")[["Params (M)", "FLOPs (M)"]].astype(float)
    said = []
    for kind in ("MA", "CBAM"):
        pairs = [(name, name.removesuffix(f"({kind})")) for name in numbers.index if name.endswith(f"({kind})")]
        more = [100 * (numbers.loc[name] / numbers.loc[plain] - 1) for name, plain in pairs]
        most = pd.concat(more, axis=1).max(axis=1)
        said.append(
            f"{kind} adds at most {most['Params (M)']:.2g}% to the parameters "
            f"and {most['FLOPs (M)']:.2g}% to the FLOPs"
        )
    return "; ".join(said) + "."
