"""Segmentation and classification apart or end to end: one small network on phantoms, over several seeds.

    python benchmarks/end_to_end.py

Each seed draws its own phantoms and its own first weights, the same for all ways of training:

    whole image     stage 2 alone, with a mask of ones
    two stages     stage 1 on the annotated masks, then stage 2 on its clean masks (the paper)
    end to end     both at once, on the sum of Dice loss and cross entropy; the mask is soft
    classes alone  the same on cross entropy alone: nobody says what a lung is

Each part of the network takes the same number of steps in every way. Recorded in benchmarks/results/end_to_end/,
one row for each training run, from which notebook 12_another_task makes its table; recorded runs are not repeated.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from shortcuts import add_rows
from torch import Tensor, nn

from manet_lib.data.phantom import Phantom, draw_phantom
from manet_lib.data.postprocess import clean_mask
from manet_lib.data.seeds import stable_hash
from manet_lib.evaluation.metrics import intersection_over_union
from manet_lib.models.joint import JointMANet
from manet_lib.models.resunet import soft_dice_loss
from manet_lib.params import CLASSES
from manet_lib.paths import recorded_results
from manet_lib.studies.confounders import RARE_SOURCE
from manet_lib.workflow.machine import processor_name

SIZE = 64
BATCH = 16
RATE = 2.0e-3
WAYS = ("whole image", "two stages", "end to end", "classes alone")


@dataclass(frozen=True)
class Images:
    """Phantoms: images float (N, 1, S, S) in [0, 1], true lungs of the same shape, classes int64 (N,)."""

    images: Tensor
    lungs: Tensor
    classes: Tensor

    @classmethod
    def of(cls, drawn: list[Phantom]) -> Images:
        """Drawn images whose classes take turns."""
        images = torch.from_numpy(np.stack([one.image for one in drawn])[:, None]).float() / 255
        lungs = torch.from_numpy(np.stack([one.lungs for one in drawn])[:, None]).float()
        return cls(images, lungs, torch.arange(len(drawn)) % len(CLASSES))


def images(seed: int, numbers: range, strength: float = 0.5, swapped: bool = False) -> Images:
    """An image of each patient, with the markers of their source, or of one that is rare in their class."""
    labels = [CLASSES[number % len(CLASSES)] for number in numbers]
    return Images.of(
        [
            draw_phantom(
                label,
                number,
                size=SIZE,
                seed=seed,
                confounder_strength=strength,
                source=RARE_SOURCE[label] if swapped else "",
            )
            for label, number in zip(labels, numbers, strict=True)
        ]
    )


Loss = Callable[[Tensor], Tensor]


def fit(module: nn.Module, loss: Loss, count: int, epochs: int, seed: int) -> None:
    """Adam with a cosine to 0 on batches of ``loss``, in an order that depends on seed and epoch alone."""
    optimiser = torch.optim.Adam(module.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=epochs * (count // BATCH))
    module.train()
    for epoch in range(epochs):
        order = torch.randperm(count, generator=torch.Generator().manual_seed(stable_hash("order", seed, epoch)))
        for number in range(count // BATCH):
            optimiser.zero_grad(set_to_none=True)
            loss(order[number * BATCH : (number + 1) * BATCH]).backward()
            optimiser.step()
            schedule.step()
    module.eval()


def train(way: str, network: JointMANet, data: Images, epochs: int, seed: int) -> None:
    """Train both stages, or what the way needs of them."""
    count = len(data.images)

    def joint(rows: Tensor) -> Tensor:
        lungs, logits = network(data.images[rows])
        loss = F.cross_entropy(logits, data.classes[rows])
        return loss if way == "classes alone" else loss + soft_dice_loss(lungs, data.lungs[rows])

    def stage_1(rows: Tensor) -> Tensor:
        return soft_dice_loss(network.segmenter(data.images[rows]), data.lungs[rows])

    def stage_2(rows: Tensor) -> Tensor:
        return F.cross_entropy(network.classifier(data.images[rows], masks[rows]), data.classes[rows])

    if way in ("end to end", "classes alone"):
        fit(network, joint, count, epochs, seed)
        return
    if way == "two stages":
        fit(network.segmenter, stage_1, count, epochs, seed)
    masks = shown_masks(way, network, data.images)
    fit(network.classifier, stage_2, count, epochs, seed)


@torch.inference_mode()
def shown_masks(way: str, network: JointMANet, images: Tensor) -> Tensor:
    """The masks that stage 2 is given: ones, clean masks of 0 and 1, or soft ones."""
    if way == "whole image":
        return torch.ones_like(images)
    soft = network.segmenter.eval()(images).sigmoid()
    if way != "two stages":
        return soft
    clean = [clean_mask(one) for one in (soft[:, 0] > 0.5).numpy()]
    return torch.from_numpy(np.stack(clean)[:, None]).float()


def accuracy(network: JointMANet, masks: Tensor, data: Images) -> float:
    """Share of the images that are classified correctly, in percent."""
    with torch.inference_mode():
        right = network.classifier(data.images, masks).argmax(1) == data.classes
    return 100 * right.double().mean().item()


def iou(masks: Tensor, data: Images) -> float:
    """Mean intersection over union of the masks, cut at one half, with the true lungs, in percent."""
    found: NDArray[np.float64] = intersection_over_union((masks > 0.5).numpy(), (data.lungs > 0.5).numpy())
    return 100 * float(found.mean())


def measure(seed: int, count: int, tests: int, epochs: int, output: Path) -> None:
    """Train in each way with one seed, and record three tests and the masks of each."""
    numbers = range(count, count + tests)
    training, usual = images(seed, range(count)), images(seed, numbers)
    others = {"without markers": images(seed, numbers, strength=0.0)}
    others |= {"swapped markers": images(seed, numbers, swapped=True)}
    for way in WAYS:
        torch.manual_seed(stable_hash("first weights", seed))
        network = JointMANet(len(CLASSES))
        train(way, network, training, epochs, seed)
        masks = shown_masks(way, network, usual.images)
        row = {"way": way, "seed": seed, "accuracy": accuracy(network, masks, usual)}
        for name, data in others.items():
            row[name] = accuracy(network, shown_masks(way, network, data.images), data)
        row |= {"iou": iou(masks, usual), "mask": 100 * masks.mean().item()}
        row |= {"lungs": 100 * usual.lungs.mean().item()}
        facts = {"images": count, "tests": tests, "epochs": epochs, "device": processor_name()}
        add_rows(output / "runs.csv", pd.DataFrame([row | facts]).round(3), ["way", "seed"])
        print(f"{way}, seed {seed}: {row['accuracy']:.1f}% right, IoU {row['iou']:.1f}%", flush=True)


def recorded(seed: int, output: Path) -> bool:
    """Whether all ways have been recorded with a seed."""
    file = output / "runs.csv"
    return file.is_file() and set(WAYS) <= set(pd.read_csv(file).query("seed == @seed")["way"])


def main() -> None:
    """Train and record what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--images", type=int, default=400, help="to train on")
    parser.add_argument("--tests", type=int, default=200, help="images to test on")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--output", type=Path, default=recorded_results("end_to_end"), help="folder to record in")
    options = parser.parse_args()
    for seed in range(options.seeds):
        if not recorded(seed, options.output):
            measure(seed, options.images, options.tests, options.epochs, options.output)


if __name__ == "__main__":
    main()
