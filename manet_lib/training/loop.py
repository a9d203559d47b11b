"""The training loop of both stages; one process and torchrun alike."""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader

from manet_lib.data.augment import EpochOrder, Pairs
from manet_lib.data.seeds import stable_hash
from manet_lib.params import Params, UserError
from manet_lib.paths import checkpoints_of, log_of, timing_of
from manet_lib.training.checkpoint import load_checkpoint, save_checkpoint
from manet_lib.training.distributed import Ranks, resolved_precision
from manet_lib.workflow.progress import bar
from manet_lib.workflow.records import atomic_path

Batch = tuple[Tensor, Tensor, Tensor, Tensor]
_LOSSES_CHECKED_EVERY = 20


@dataclass
class Training:
    """What one training run is made of.

    Attributes:
        folder: where checkpoints and logs go.
        key: what the result depends on, kept in the checkpoints.
        seeds: seed and trial.
        model: on its device.
        optimiser: of the model's parameters.
        scheduler: stepped once per epoch.
        loss: mean loss of a batch (image, mask, target, row), from the model.
        validate: metrics of the model after an epoch, by column name of the log.
        data: the training set, augmented.
        epochs: how many.
        batch_size: images per step over all ranks.
        scaler: of the loss; idle but for fp16.
    """

    folder: Path
    key: dict[str, Any]
    seeds: tuple[int, int]
    model: nn.Module
    optimiser: Optimizer
    scheduler: LRScheduler
    loss: Callable[[nn.Module, Batch], Tensor]
    validate: Callable[[nn.Module], dict[str, float]]
    data: Pairs
    epochs: int
    batch_size: int
    scaler: torch.amp.GradScaler


def prepare(model: nn.Module, params: Params, device: torch.device) -> nn.Module:
    """Move a network to its device and memory format."""
    if params.channels_last:
        model = model.to(memory_format=torch.channels_last)
    return model.to(device)


def use_threads(params: Params) -> None:
    """Keep PyTorch to ``params.threads`` threads of the processor, where that is set."""
    if params.threads:
        torch.set_num_threads(params.threads)


def autocast(params: Params, device: torch.device) -> AbstractContextManager[None]:
    """The arithmetic of ``params.precision``."""
    precision = resolved_precision(params.precision, device)
    dtype = torch.float16 if precision == "fp16" else torch.bfloat16
    return torch.autocast(device.type, dtype, enabled=precision in ("bf16", "fp16"))


def loss_scaler(params: Params, device: torch.device) -> torch.amp.GradScaler:
    """The scaler of the loss, which fp16 alone needs."""
    return torch.amp.GradScaler(device.type, enabled=params.precision == "fp16")


def part_size(params: Params, batch_size: int) -> int:
    """Images that one process works on at a time: its share of a batch, in ``accumulate`` parts."""
    return max(1, batch_size // (params.nodes * params.devices * params.accumulate))


def batches(data: Pairs, params: Params, ranks: Ranks, order: EpochOrder, batch_size: int) -> DataLoader[Any]:
    """A loader of this rank's share of a data set, ``batch_size`` images at a time."""
    return DataLoader(
        data,
        batch_size=batch_size,
        sampler=order,
        num_workers=params.num_workers,
        persistent_workers=params.num_workers > 0,
        pin_memory=ranks.device.type == "cuda",
        generator=torch.Generator(),  # else each iterator draws from the stream of dropout
    )


def to_device(batch: Batch, data: Pairs, params: Params, device: torch.device) -> Batch:
    """A batch as the networks take it: on the device, in their memory format, images scaled, masks float32."""
    image, mask, target, row = batch
    layout = torch.channels_last if params.channels_last else torch.contiguous_format
    return (
        data.scale(image.to(device, memory_format=layout, non_blocking=True)),
        mask.to(device, non_blocking=True).float(),
        target.to(device, non_blocking=True),
        row,
    )


def fit(training: Training, params: Params, ranks: Ranks) -> pd.DataFrame:
    """Train, from the newest checkpoint if there is one, and return the log.

    After each epoch the log is written whole. A checkpoint is taken after an epoch if the last one is
    ``checkpoint_minutes`` old or older, and after the last epoch. Timing goes to a file of its own, so that the
    log of an interrupted training run is the log of an undisturbed one.

    Returns:
        One row per epoch: epoch, learning_rate, train_loss and the metrics of ``training.validate``.

    Raises:
        UserError: the training set is smaller than a batch, a loss is not finite, or memory ran out.
    """
    if len(training.data) < training.batch_size:
        raise UserError(
            f"batch_size: {training.batch_size} images, but the training set has {len(training.data)}; "
            f"expected at most that"
        )
    history = _resume(training, params)
    if len(set(ranks.gather(len(history)))) > 1:
        raise UserError("checkpoints: the nodes see different ones; expected a run folder that all of them share")
    if ranks.leads and not history:  # else those that are not gone on with would stay the newest
        shutil.rmtree(checkpoints_of(training.folder), ignore_errors=True)
    order = EpochOrder(
        len(training.data),
        training.seeds,
        shuffle=True,
        batch_size=training.batch_size,
        rank=ranks.rank,
        world=ranks.world,
    )
    loader = batches(training.data, params, ranks, order, training.batch_size // ranks.world // params.accumulate)
    network = _distribute(training.model, params, ranks)
    saved = time.monotonic()
    for epoch in range(len(history), training.epochs):
        order.epoch = epoch
        torch.manual_seed(stable_hash("torch", *training.seeds, epoch, ranks.rank))
        started = time.perf_counter()
        rate = float(training.optimiser.param_groups[0]["lr"])
        loss = _epoch(training, params, ranks, loader, network, history)
        training.scheduler.step()
        metrics = training.validate(training.model)
        history.append({"epoch": epoch + 1, "learning_rate": rate, "train_loss": loss, **metrics})
        if ranks.leads:
            _record(training, history, order.used, time.perf_counter() - started)
            if epoch + 1 == training.epochs or time.monotonic() - saved >= 60 * params.checkpoint_minutes:
                _save(training, history)
                saved = time.monotonic()
    return pd.DataFrame(history)


def _distribute(model: nn.Module, params: Params, ranks: Ranks) -> nn.Module:
    """The network that is trained: the model itself, shared between ranks and compiled as asked for."""
    on_gpu = ranks.device.type == "cuda"
    if params.sync_batchnorm and not on_gpu:
        raise UserError("sync_batchnorm: true works on GPUs only, but none is used here; set it to false")
    if ranks.world > 1:
        if params.sync_batchnorm:
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        model = DistributedDataParallel(model, device_ids=[ranks.device.index] if on_gpu else None)
    return torch.compile(model) if params.compile else model  # type: ignore[return-value]


def _resume(training: Training, params: Params) -> list[dict[str, Any]]:
    state = load_checkpoint(checkpoints_of(training.folder), training.key, params.old_code)
    if state is None:
        return []
    training.model.load_state_dict(state["model"])
    training.optimiser.load_state_dict(state["optimiser"])
    training.scheduler.load_state_dict(state["scheduler"])
    training.scaler.load_state_dict(state["scaler"])
    return json.loads(state["history"])


def _epoch(
    training: Training,
    params: Params,
    ranks: Ranks,
    loader: DataLoader[Any],
    network: nn.Module,
    history: list[dict[str, Any]],
) -> float:
    """Train for one epoch, ``accumulate`` batches of the loader a step; returns the mean loss of all ranks."""
    network.train()
    epoch, parts = len(history) + 1, params.accumulate
    losses: list[Tensor] = []
    rows: list[Tensor] = []
    images = len(loader) * (loader.batch_size or 1) * ranks.world
    text = f"epoch {epoch}/{training.epochs}"
    with bar(None, images, text, unit="images", quiet=not ranks.leads) as shown:
        for number, batch in enumerate(loader, start=1):
            last = number % parts == 0
            with memory_named(f"epoch {epoch}", batch[0], params):
                with nullcontext() if last or ranks.world == 1 else network.no_sync():  # type: ignore[operator]
                    losses.append(_backward(training, params, ranks, network, batch))
                if last:
                    training.scaler.step(training.optimiser)
                    training.scaler.update()
                    training.optimiser.zero_grad(set_to_none=True)
            rows.append(batch[3])
            shown.update(len(batch[0]) * ranks.world)
            if number % _LOSSES_CHECKED_EVERY == 0 or number == len(loader):
                recent = _check(training, losses, rows, epoch, parts)
                accuracy = history[-1].get("val_accuracy") if history else None
                shown.set_postfix(loss=recent, val_accuracy=accuracy)
    mean = torch.stack(losses).double().mean().item()
    return float(np.mean(ranks.gather(mean)))


def _backward(training: Training, params: Params, ranks: Ranks, network: nn.Module, batch: Batch) -> Tensor:
    moved = to_device(batch, training.data, params, ranks.device)
    with autocast(params, ranks.device):
        loss = training.loss(network, moved)
    training.scaler.scale(loss / params.accumulate).backward()
    return loss.detach()


@contextmanager
def memory_named(what: str, image: Tensor, params: Params) -> Iterator[None]:
    """Turn a lack of memory into one line that says what to change."""
    try:
        yield
    except RuntimeError as error:
        if "out of memory" not in str(error) and "can't allocate memory" not in str(error):
            raise
        raise UserError(
            f"{what}: out of memory with {len(image)} images of {image.shape[-1]} pixels at a time; raise "
            f"accumulate: {params.accumulate} to {2 * params.accumulate}, lower image_size, or set precision: bf16"
        ) from None


def _check(training: Training, losses: list[Tensor], rows: list[Tensor], epoch: int, parts: int) -> float:
    """Mean of the latest losses; refuses one that is not finite."""
    recent = torch.stack(losses[-_LOSSES_CHECKED_EVERY:])
    bad = (~recent.isfinite()).nonzero()
    if len(bad):
        number = max(len(losses) - _LOSSES_CHECKED_EVERY, 0) + int(bad[0])
        place = {int(row): name for row, name in zip(training.data.rows, training.data.names, strict=True)}
        names = ", ".join(place[int(row)] for row in rows[number])
        raise UserError(
            f"epoch {epoch}, step {number // parts + 1}: the loss is {losses[number].item()} at learning rate "
            f"{training.optimiser.param_groups[0]['lr']:.3g}; lower it, or look at the images {names}"
        )
    return recent.mean().item()


def _record(training: Training, history: list[dict[str, Any]], images: int, seconds: float) -> None:
    with atomic_path(log_of(training.folder)) as temporary:
        pd.DataFrame(history).to_csv(temporary, index=False)
    timing = timing_of(training.folder)
    row = pd.DataFrame([{"epoch": len(history), "seconds": seconds, "images_per_second": images / seconds}])
    row.round(3).to_csv(timing, mode="a", index=False, header=not timing.exists())
    metrics = ", ".join(f"{name} {value:.4f}" for name, value in history[-1].items() if name not in ("epoch",))
    print(
        f"epoch {len(history)}/{training.epochs}: {metrics} ({images / seconds:.1f} images/s, {seconds:.0f} s)",
        flush=True,
    )


def _save(training: Training, history: list[dict[str, Any]]) -> None:
    state = {
        "key": json.dumps(training.key),
        "model": training.model.state_dict(),
        "optimiser": training.optimiser.state_dict(),
        "scheduler": training.scheduler.state_dict(),
        "scaler": training.scaler.state_dict(),
        "history": json.dumps(history),
    }
    save_checkpoint(checkpoints_of(training.folder), len(history), state)
