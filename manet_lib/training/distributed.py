"""Where this process computes and which part of the work is its own."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from manet_lib.artifacts import Step
from manet_lib.params import Params, UserError
from manet_lib.paths import checkpoints_of


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
        name = device_name(self.device)
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


def device_name(device: torch.device) -> str:
    """A device in words: the GPU's name, or the processor's and the number of threads that PyTorch uses."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    threads = torch.get_num_threads()
    return f"{names[0] if names else platform.processor() or 'cpu'}, {threads} thread{'s' * (threads > 1)}"


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
    return torch.device("cuda", local_rank if devices > 1 or under_torchrun() else _free_gpu(gpus))


@cache
def _free_gpu(count: int) -> int:
    """The first GPU that no other training of this machine has claimed; trainings side by side take one each.

    The claim is a locked file, which the system unlocks when this process ends. With all claimed, GPU 0 is shared.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return 0
    for number in range(count):
        try:
            claim = os.open(
                Path(tempfile.gettempdir()) / f"manet-{os.getuid()}-gpu{number}.lock", os.O_CREAT | os.O_RDWR
            )
            fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue
        return number
    return 0


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
    timeout = timedelta(minutes=params.timeout_minutes)
    store, rank, world = next(iter(dist.rendezvous("env://", timeout=timeout)))
    # a restart uses the agent's store again, where the addresses of the processes that died still stand
    store = dist.PrefixStore(f"attempt {os.environ['TORCHELASTIC_RESTART_COUNT']}", store)
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=timeout)
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size(), device)
    finally:
        dist.destroy_process_group()


def run_step(step: Step, params: Params, work: Callable[[Ranks], None]) -> bool:
    """Do a step's work on all ranks unless it is done already; rank 0 records it and removes its checkpoints.

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
            shutil.rmtree(checkpoints_of(step.folder), ignore_errors=True)
    return True
