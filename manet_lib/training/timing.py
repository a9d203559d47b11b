"""Seconds per training step of several networks, measured side by side."""

import time
from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn

from manet_lib.evaluation.statistics import bootstrap_interval
from manet_lib.params import Params
from manet_lib.training.loop import autocast, memory_named, prepare
from manet_lib.workflow.progress import bar

WARM_UP = 3


def interleaved_steps(
    models: Mapping[str, nn.Module],
    image_size: int,
    batch_size: int,
    repeats: int,
    device: torch.device,
    params: Params,
) -> pd.DataFrame:
    """Time training steps (forward, backward, SGD) of several networks in turn, round by round.

    The order within a round changes from round to round, so that no network always follows the same one.

    Args:
        models: networks called as ``model(image, mask)``, by name.
        image_size: height and width in pixels.
        batch_size: images per step.
        repeats: counted rounds, after ``WARM_UP`` uncounted ones.
        device: where to compute.
        params: precision, channels_last, compile and accumulate.

    Returns:
        Seconds, one row per round and one column per network.
    """
    layout = torch.channels_last if params.channels_last else torch.contiguous_format
    image = torch.rand(batch_size, 1, image_size, image_size).to(device, memory_format=layout) * 2 - 1
    mask = (torch.rand(batch_size, 1, image_size, image_size) > 0.5).float().to(device)
    target = torch.arange(batch_size, device=device) % 5
    ready = {name: prepare(model, params, device).train() for name, model in models.items()}
    networks = {name: torch.compile(model) if params.compile else model for name, model in ready.items()}
    optimisers = {name: torch.optim.SGD(model.parameters(), 1e-4, 0.9) for name, model in ready.items()}

    def step(name: str) -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        started = time.perf_counter()
        optimisers[name].zero_grad(set_to_none=True)
        with memory_named(f"timing {name}", image, params):
            with autocast(params, device):
                loss = F.cross_entropy(networks[name](image, mask).float(), target)
            loss.backward()
            optimisers[name].step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - started

    rng = np.random.default_rng(0)
    rounds = []
    for _ in bar(range(WARM_UP + repeats), WARM_UP + repeats, "timing"):
        names = list(ready)
        rng.shuffle(names)
        seconds = {name: step(name) for name in names}
        rounds.append([seconds[name] for name in ready])
    return pd.DataFrame(rounds[WARM_UP:], columns=list(ready))


def increase(seconds: pd.DataFrame, name: str, baseline: str) -> tuple[float, float, float]:
    """Median over the rounds of how much longer a network's step takes than the baseline's, in percent.

    Returns:
        Median and its 95% bootstrap interval.
    """
    ratios = (seconds[name] / seconds[baseline]).to_numpy()
    low, high = bootstrap_interval(ratios, "median")
    median, low, high = (100 * (value - 1) for value in (float(np.median(ratios)), low, high))
    return median, low, high
