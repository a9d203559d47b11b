"""Table 3: parameters, FLOPs and running time of all models."""

from __future__ import annotations

import logging
import warnings
from functools import partial

import pandas as pd
import torch

from manet_lib.artifacts import Step, atomic_path
from manet_lib.models import create_model, model_names
from manet_lib.models.cost import measure_cost
from manet_lib.params import Params, view
from manet_lib.paths import RunPaths
from manet_lib.report.tables import model_title, published
from manet_lib.training.distributed import device_name, pick_device
from manet_lib.training.timing import increase, interleaved_steps

TABLE_3_SIZE = 512
"""Pixels at which Table 3 counts, whatever the size of a run."""


def fvcore_cost(name: str, image_size: int = TABLE_3_SIZE) -> tuple[int, int]:
    """Parameters and FLOPs of one image as fvcore counts them.

    FLOPs are multiply-accumulates, normalisation and adaptive pooling by rules of its own.
    """
    logging.getLogger("fvcore").setLevel(logging.ERROR)
    model = create_model(name).eval()
    pair = (torch.zeros(1, 1, image_size, image_size), torch.ones(1, 1, image_size, image_size))
    with warnings.catch_warnings(action="ignore", category=FutureWarning):  # it is built on torch.jit
        from fvcore.nn import FlopCountAnalysis, parameter_count

        counter = FlopCountAnalysis(model, pair).unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        return int(parameter_count(model)[""]), int(counter.total())


def count_table() -> pd.DataFrame:
    """Parameters and FLOPs of all ten models at 512×512, the printed cells beside them (Table 3).

    The counts depend on no data, so the printed numbers are a fair comparison in every run.
    """
    printed = published("table3_cost").set_index("model")
    rows = []
    for name in model_names():
        cost = measure_cost(create_model(name), TABLE_3_SIZE)
        params, flops = fvcore_cost(name)
        rows.append(
            {
                "Model": model_title(name),
                "Params (M)": f"{cost.params / 1e6:.2f}",
                "Params, paper": printed.loc[name, "params_m"],
                "FLOPs (M)": f"{cost.flops / 1e6:.2f}",
                "FLOPs, paper": printed.loc[name, "flops_m"],
                "Pooled mask elements": cost.pooled_mask_elements,
                "Params by fvcore (M)": f"{params / 1e6:.2f}",
                "FLOPs by fvcore (M)": f"{flops / 1e6:.2f}",
            }
        )
    return pd.DataFrame(rows)


def cost_step(params: Params, paths: RunPaths) -> Step:
    """The step that counts FLOPs and measures running times."""
    return Step("cost", paths.cost, params, [], [paths.cost / "counts.csv", paths.cost / "seconds.csv"])


def measure(params: Params, paths: RunPaths) -> bool:
    """Count all ten models, and time training steps of the run's models, each backbone's in turn.

    ``counts.csv`` is :func:`count_table`; ``seconds.csv`` has one row per round and one column per model.

    Returns:
        Whether there was anything to do.
    """
    device = pick_device(params.accelerator)
    work = partial(_measure, view(params, "cost"), paths, device)
    return cost_step(params, paths).run(work, device_name(device))


def _measure(params: Params, paths: RunPaths, device: torch.device) -> None:
    with atomic_path(paths.cost / "counts.csv") as temporary:
        count_table().to_csv(temporary, index=False)
    parts = []
    for backbone in dict.fromkeys(name.partition("_")[0] for name in params.models):
        models = {name: create_model(name) for name in params.models if name.partition("_")[0] == backbone}
        parts.append(
            interleaved_steps(
                models,
                params.image_size,
                params.batch_size,
                params.cost_repeats,
                device,
                channels_last=params.channels_last,
            )
        )
    with atomic_path(paths.cost / "seconds.csv") as temporary:
        pd.concat(parts, axis=1).round(6).to_csv(temporary, index=False)


def time_table(params: Params, paths: RunPaths) -> pd.DataFrame:
    """Seconds per training step and increase over the plain model (Table 3).

    The paper's increase stands beside it in a run on the paper's data, at its size and batch. No rows where
    ``cost_repeats`` is 0.
    """
    printed = published("table3_cost").set_index("model")["time_increase_pct"]
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
        if params.published:
            row["Increase, paper (%)"] = printed[name] or "–"
        rows.append(row)
    return pd.DataFrame(rows)
