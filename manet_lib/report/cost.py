"""Notebook 07: Table 3, parameters, FLOPs and running time of all models."""

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


def printed_cells(table: pd.DataFrame) -> tuple[int, int]:
    """How many cells of a table of :func:`count_table` are the paper's, and how many the paper prints."""
    same = sum(int((table[f"{name} (M)"] == table[f"{name}, paper"]).sum()) for name in ("Params", "FLOPs"))
    return same, 2 * int((table["Params, paper"] != "–").sum())


def time_table(params: Params, paths: RunPaths) -> pd.DataFrame:
    """Seconds per training step and increase over the plain model (Table 3).

    The paper's increase stands beside it in a run on the paper's data, at its size and with its 16 images on each
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
