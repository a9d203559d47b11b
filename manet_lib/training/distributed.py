"""Where this process computes and which part of the work is its own."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from manet_lib.artifacts import Step
from manet_lib.params import Params, UserError

_TIMEOUT = timedelta(minutes=10)


@dataclass(frozen=True)
class Ranks:
    """This process among the processes that share each batch.

    Attributes:
        rank: number of this process, from 0.
        world: number of processes.
        device: where this process computes.
    """

    rank: int
    world: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0

    @property
    def device_name(self) -> str:
        """The device in words, for records."""
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "cpu"
        return name if self.world == 1 else f"{self.world} × {name}"

    def gather(self, value: Any) -> list[Any]:
        """The values of all processes, by rank; on every process."""
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        dist.all_gather_object(values, value)
        return values

    def wait(self) -> None:
        """Return when every process has come here."""
        if self.world > 1:
            dist.barrier()


def pick_device(accelerator: str, devices: int = 1, local_rank: int = 0) -> torch.device:
    """The device of a process.

    Args:
        accelerator: `auto`, `cpu` or `cuda`.
        devices: how many processes share this machine.
        local_rank: which of them asks.

    Raises:
        UserError: the machine has fewer GPUs than asked for.
    """
    gpus = torch.cuda.device_count()
    if accelerator == "cpu" or (accelerator == "auto" and gpus == 0 and devices == 1):
        return torch.device("cpu")
    if gpus < devices:
        way_out = "set `accelerator: cpu`" if gpus == 0 else f"set `devices: {gpus}`"
        raise UserError(f"devices: {devices} with accelerator: {accelerator}, but {gpus} GPUs are here; {way_out}")
    return torch.device("cuda", local_rank)


def under_torchrun() -> bool:
    """Whether this process is a worker of torchrun."""
    return "TORCHELASTIC_RUN_ID" in os.environ


@contextmanager
def joined(params: Params) -> Iterator[Ranks]:
    """Join the processes that torchrun started, or be the only one; leave again at the end of the block."""
    if not under_torchrun():
        yield Ranks(0, 1, pick_device(params.accelerator))
        return
    device = pick_device(params.accelerator, params.devices, int(os.environ["LOCAL_RANK"]))
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_TIMEOUT)
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size(), device)
    finally:
        dist.destroy_process_group()


def run_step(step: Step, params: Params, work: Callable[[Ranks], None]) -> bool:
    """Do a step's work on all ranks unless it is done already; rank 0 records it.

    Returns:
        Whether there was anything to do.
    """
    if step.is_done():
        return False
    with joined(params) as ranks:
        ranks.wait()
        started = time.perf_counter()
        key = step.begin() if ranks.leads else {}
        work(ranks)
        ranks.wait()
        if ranks.leads:
            step.complete(key, ranks.device_name, time.perf_counter() - started)
    return True
