"""This loop beside the plainest correct torchvision loop: images per second of training, in one run.

    python benchmarks/training.py --model resnet34 --image-size 64 --batch-size 16 --repeats 30

The plain loop: torchvision's model with a one-channel stem, a DataLoader that shuffles, SGD, cross entropy,
fp32, contiguous tensors, nothing else. Both load and augment the same images. Rounds are interleaved, their
order changes; the ratio is taken round by round. On a GPU add ``--bf16 --compile --workers 8``: the plain loop
stays fp32 and eager. Also measured: the share of a step that waits for the loader, and what the log and the
seeding of each image cost of an epoch. The result is written to ``benchmarks/results/``.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from torch import nn
from torch.utils.data import DataLoader, Dataset

from manet_lib.data.augment import EpochOrder, Pairs, classification_augmentation, reseed
from manet_lib.evaluation.statistics import bootstrap_interval
from manet_lib.models import create_model
from manet_lib.params import Params
from manet_lib.training import loop
from manet_lib.training.distributed import Ranks, device_name, pick_device

RESULTS = Path(__file__).parent / "results"
WARM_UP = 2
PAPER_IMAGES = 5433
"""Training images of Table 1, for the projection to the paper's 30 training runs of 200 epochs."""


def images(count: int, size: int, params: Params) -> Pairs:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, size, size), dtype=np.uint8)
    masks = (rng.random((count, size // 8, size // 8)) > 0.4).astype(np.uint8).repeat(8, 1).repeat(8, 2)
    augmentation = classification_augmentation(params)
    targets = np.arange(count) % 5
    return Pairs(images, masks, np.arange(count), targets, params, segmented=True, augmentation=augmentation)


class Plain(Dataset[Any]):
    """The same images for the plain loop, which knows of no epochs."""

    def __init__(self, data: Pairs) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, position: int) -> Any:
        image, _, target, _ = self.data[0, position]
        return self.data.scale(image), target


def plain_loop(options: argparse.Namespace, data: Pairs, device: torch.device) -> Any:
    model = getattr(torchvision.models, options.model)(num_classes=5)
    model.conv1 = nn.Conv2d(1, 64, 7, 2, 3, bias=False)
    model.to(device).train()
    optimiser = torch.optim.SGD(model.parameters(), 0.01, 0.9)
    loader = DataLoader(
        Plain(data),
        options.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=options.workers,
        persistent_workers=options.workers > 0,
    )

    def epoch() -> None:
        for image, target in loader:
            loss = F.cross_entropy(model(image.to(device)), target.to(device))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()

    return epoch


def own_loop(options: argparse.Namespace, data: Pairs, params: Params, ranks: Ranks, folder: Path) -> Any:
    model = loop.prepare(create_model(options.model), params, ranks.device)
    optimiser = torch.optim.SGD(model.parameters(), 0.01, 0.9)
    training = loop.Training(
        folder=folder,
        key={"parameters": {}, "inputs": {}, "code": {}},
        seeds=(0, 1),
        model=model,
        optimiser=optimiser,
        scheduler=torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=200),
        loss=lambda network, batch: F.cross_entropy(network(batch[0], batch[1]).float(), batch[2]),
        validate=lambda network: {},
        data=data,
        epochs=10**6,
        batch_size=options.batch_size,
        scaler=loop.loss_scaler(params, ranks.device),
    )
    order = EpochOrder(len(data), (0, 1), shuffle=True, batch_size=options.batch_size)
    loader = loop.batches(data, params, ranks, order, options.batch_size)
    network = loop._distribute(model, params, ranks)
    history: list[dict[str, Any]] = []

    def epoch() -> None:
        order.epoch = len(history)
        torch.manual_seed(order.epoch)
        loop._epoch(training, params, ranks, loader, network, history)

    return epoch, training, loader


def seconds_of(work: Any, device: torch.device) -> float:
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def extras(training: loop.Training, data: Pairs, epoch: float) -> dict[str, float]:
    """Percent of an epoch, validation apart, that each extra costs: medians of ten."""
    history = [{"epoch": 1, "learning_rate": 0.01, "train_loss": 1.0}]

    def median(work: Any) -> float:
        return float(np.median([seconds_of(work, torch.device("cpu")) for _ in range(10)]))

    log = median(lambda: loop._record(training, history, len(data), epoch))
    seeding = median(lambda: [reseed(data.augmentation, 0, 1, 0, name) for name in data.names])  # type: ignore[arg-type]
    costs = {"log": log, "seeding of each image": seeding}
    return {name: round(100 * value / epoch, 3) for name, value in costs.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description="This training loop beside the plainest one.")
    parser.add_argument("--accelerator", default="auto", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--model", default="resnet34", choices=["resnet34", "resnet50"])
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--steps", type=int, default=4, help="steps of each loop in a round")
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--output", type=Path, help="JSON file to write instead of the one in benchmarks/results/")
    options = parser.parse_args()
    device = pick_device(options.accelerator)
    params = Params(
        profile="bench",
        image_size=options.image_size,
        models=[options.model],
        num_workers=options.workers,
        precision="bf16" if options.bf16 else "fp32",
        compile=options.compile,
    )
    data = images(options.steps * options.batch_size, options.image_size, params)
    with tempfile.TemporaryDirectory() as folder:
        own, training, loader = own_loop(options, data, params, Ranks(0, 1, device), Path(folder))
        loops = {"own": own, "plain": plain_loop(options, data, device)}
        rng, rounds = np.random.default_rng(0), []
        for _ in range(WARM_UP + options.repeats):
            names = list(loops)
            rng.shuffle(names)
            seconds = {name: seconds_of(loops[name], device) for name in names}
            rounds.append((seconds["own"], seconds["plain"]))
        times = np.array(rounds[WARM_UP:])
        ratio = times[:, 1] / times[:, 0]
        epoch = float(np.median(times[:, 0]))
        loading = float(np.median([seconds_of(lambda: list(loader), torch.device("cpu")) for _ in range(5)]))
        record: dict[str, Any] = {
            "device": device_name(device),
            "torch": torch.__version__,
            "command": f"python benchmarks/training.py {' '.join(sys.argv[1:])}",
            "speed_over_plain_loop": round(float(np.median(ratio)), 4),
            "interval_95": [round(value, 4) for value in bootstrap_interval(ratio, "median")],
            "loader_alone_percent_of_epoch": round(100 * loading / epoch, 2),
            "images_of_an_epoch": len(data),
            "cost_percent_of_an_epoch": extras(training, data, epoch),
        }
    record["cost_percent_of_the_papers_epoch"] = {
        name: round(value * (1 if "image" in name else len(data) / PAPER_IMAGES), 4)
        for name, value in record["cost_percent_of_an_epoch"].items()
    }
    if device.type == "cuda":
        record["images_per_second"] = round(len(data) / epoch, 1)
        record["hours_of_30_trainings_like_this"] = round(epoch / len(data) * PAPER_IMAGES * 200 * 30 / 3600, 1)
    print(json.dumps(record, indent=2))
    mode = ("-bf16" if options.bf16 else "") + ("-compile" if options.compile else "")
    file = RESULTS / f"training-{device.type}-{options.model}-{options.image_size}{mode}.json"
    (options.output or file).write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
