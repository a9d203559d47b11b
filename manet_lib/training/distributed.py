"""Where this process computes and which part of the work is its own."""

import getpass
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from manet_lib.params import Params, UserError
from manet_lib.paths import checkpoints_of
from manet_lib.workflow.machine import processor_has_bf16, processor_name
from manet_lib.workflow.records import Step, claimed


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

    def share_buffers(self, model: nn.Module) -> None:
        """Give every process the buffers of rank 0: after a step, each has batch-norm statistics of its own.

        What is evaluated on all ranks is then the network that rank 0 saves.
        """
        if self.world > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, src=0)

    def wait(self) -> None:
        """Return when every process has come here."""
        if self.world > 1:
            dist.barrier()


def device_name(device: torch.device) -> str:
    """A device in words: the GPU's name, or the processor's and the number of threads that PyTorch uses."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{processor_name()}, {threads} thread{'s' * (threads > 1)}"


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
        raise UserError(
            f"devices: {devices} with accelerator: {accelerator}, but GPUs on this machine: {gpus}; {way_out}"
        )
    return torch.device("cuda", local_rank)


@contextmanager
def own_gpus(count: int) -> Iterator[list[int]]:
    """The first GPUs that no other training run of this user has claimed, by number, until the block ends.

    A claim is a locked file named after the GPU; the system releases it when this process ends. If too few are
    free, some are shared, and a message says so.
    """
    here = torch.cuda.device_count()
    free: list[int] = []
    with ExitStack() as held:
        for number in range(here):
            folder = Path(tempfile.gettempdir()) / f"manet-{_user()}-gpu-{_gpu_name(number)}"
            if len(free) < count:
                with suppress(UserError):
                    held.enter_context(claimed(folder))
                    free.append(number)
        if len(free) < count:
            print(
                f"{here - len(free)} of {here} GPUs are at work for other training runs of yours; sharing",
                flush=True,
            )
            others = [number for number in range(here) if number not in free]
            turn = os.getpid() % max(1, len(others))  # not everybody shares the first one
            free += (others[turn:] + others[:turn])[: count - len(free)]
        yield free


@contextmanager
def own_gpu(device: torch.device) -> Iterator[torch.device]:
    """One of :func:`own_gpus`; the processor as it is."""
    if device.type == "cpu":
        yield device
        return
    with own_gpus(1) as (number,):
        yield torch.device("cuda", number)


def _user() -> str:
    """Who this is, by number where there is one: containers may have no name for it."""
    return str(os.getuid()) if hasattr(os, "getuid") else getpass.getuser()


def _gpu_name(number: int) -> str:
    """A name that stays the same however CUDA_VISIBLE_DEVICES numbers the GPUs."""
    return str(getattr(torch.cuda.get_device_properties(number), "uuid", number))


def under_torchrun() -> bool:
    """Whether this process is a worker of torchrun."""
    return "TORCHELASTIC_RUN_ID" in os.environ


@contextmanager
def joined(params: Params) -> Iterator[Ranks]:
    """Join the processes that torchrun started, or be the only one; leave again at the end of the block."""
    if not under_torchrun():
        with own_gpu(pick_device(params.accelerator)) as device:
            set_arithmetic(params.precision)
            if device.type == "cuda":
                torch.cuda.set_device(device)
            yield Ranks(0, 1, device)
        return
    device = pick_device(params.accelerator, params.devices, int(os.environ["LOCAL_RANK"]))
    set_arithmetic(params.precision)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    timeout = timedelta(minutes=params.timeout_minutes)
    store, rank, world = next(iter(dist.rendezvous("env://", timeout=timeout)))
    if world != params.nodes * params.devices:
        raise UserError(
            f"torchrun: {world} processes, but nodes × devices is {params.nodes} × {params.devices}; "
            f"start {params.nodes * params.devices}, or change the parameters"
        )
    # A restart on one machine uses the agent's store again, where the addresses of the processes that died still
    # stand; several machines meet at a new port each time, as each agent counts restarts for itself.
    shared = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    meeting = os.environ["TORCHELASTIC_RESTART_COUNT"] if shared else os.environ["MASTER_PORT"]
    store = dist.PrefixStore(f"meeting {meeting}", store)
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=timeout)
    yield Ranks(dist.get_rank(), dist.get_world_size(), device)
    dist.destroy_process_group()  # not after an error, when NCCL would wait for ranks that are elsewhere


def set_arithmetic(precision: str) -> None:
    """How GPUs compute: fp32 in full, as the paper's P100 did, unless TF32 is asked for.

    Convolutions are chosen by measurement (cudnn.benchmark), as every batch has the same size; two GPU training
    runs may therefore differ in their last bits.
    """
    tf32 = precision == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.benchmark = True


def resolved_precision(precision: str, device: torch.device) -> str:
    """The arithmetic behind ``precision: auto`` on a device; other values as they are."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp32"
    return "bf16" if processor_has_bf16() else "fp32"


def run_step(step: Step, params: Params, work: Callable[[Ranks], None]) -> bool:
    """Do a step's work on all ranks unless it is done already; rank 0 records it and removes its checkpoints.

    Returns:
        Whether there was anything to do.

    Raises:
        UserError: another process is at work in the step's folder.
    """
    if step.is_done():
        return False
    with joined(params) as ranks, claimed(step.folder) if ranks.leads else nullcontext():
        folders = ranks.gather("/".join(step.folder.parts[-3:]))
        if len(set(folders)) > 1:
            raise UserError(
                f"torchrun: processes of {' and '.join(sorted(set(folders)))} joined one group; "
                "give each run its own --rdzv-id"
            )
        if ranks.gather(ranks.leads and step.is_done())[0]:  # by another process, meanwhile
            return False
        started = time.perf_counter()
        key = step.begin() if ranks.leads else {}
        work(ranks)
        ranks.wait()
        if ranks.leads:
            facts = {"precision": resolved_precision(params.precision, ranks.device)}
            step.complete(key, ranks.device_name, time.perf_counter() - started, **facts)
            shutil.rmtree(checkpoints_of(step.folder), ignore_errors=True)
    return True
