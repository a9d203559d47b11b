"""Table 3 measured: parameters and FLOPs of all ten models, and the running times of a run's."""

import logging
import warnings
from functools import partial

import pandas as pd
import torch

from manet_lib.models import create_model, model_names
from manet_lib.models.cost import measure_cost
from manet_lib.params import Params
from manet_lib.paths import RunPaths
from manet_lib.training.distributed import device_name, own_gpu, pick_device, resolved_precision, set_arithmetic
from manet_lib.training.loop import part_size, use_threads
from manet_lib.training.timing import interleaved_steps
from manet_lib.workflow.parameters import view
from manet_lib.workflow.records import write_csv
from manet_lib.workflow.steps import cost_step

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


def counts() -> pd.DataFrame:
    """Columns model, params, flops, pooled_mask_elements, fvcore_params and fvcore_flops, one row per model."""
    rows = []
    for name in model_names():
        with torch.device("meta"):
            model = create_model(name)
        rows.append((name, *measure_cost(model, TABLE_3_SIZE), *fvcore_cost(name)))
    columns = ["model", "params", "flops", "pooled_mask_elements", "fvcore_params", "fvcore_flops"]
    return pd.DataFrame(rows, columns=columns)


def measure(params: Params, paths: RunPaths) -> bool:
    """Count all ten models, and time training steps of the run's models, each backbone's in turn.

    ``counts.csv`` is :func:`counts`; ``seconds.csv`` has one row per round and one column per model. A step has
    the images that one device sees at a time: the batch, divided among nodes and devices and by ``accumulate``.

    Returns:
        Whether there was anything to do.
    """
    step = cost_step(params, paths)
    if step.is_done():
        return False
    with own_gpu(pick_device(params.accelerator)) as device:
        set_arithmetic(params.precision)
        work = partial(_measure, view(params, "cost"), paths, device)
        return step.run(work, device_name(device), precision=resolved_precision(params.precision, device))


def _measure(params: Params, paths: RunPaths, device: torch.device) -> None:
    write_csv(paths.cost / "counts.csv", counts())
    use_threads(params)
    parts = []
    for backbone in dict.fromkeys(name.partition("_")[0] for name in params.models):
        models = {name: create_model(name) for name in params.models if name.partition("_")[0] == backbone}
        size = part_size(params, params.batch_size)
        parts.append(interleaved_steps(models, params.image_size, size, params.cost_repeats, device, params))
    write_csv(paths.cost / "seconds.csv", pd.concat(parts, axis=1).round(6))
