"""What tests start under torchrun: ``ranks.py evaluate OUT`` or ``ranks.py train OUT``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

from manet_lib.data.augment import Pairs
from manet_lib.models import create_model
from manet_lib.params import Params
from manet_lib.training.distributed import joined
from manet_lib.training.evaluate import evaluate, evaluation_loader
from manet_lib.training.loop import Training, fit, loss_scaler

PARAMS = Params(profile="x", accelerator="cpu", image_size=32, models=["resnet34"], batch_size=12)


def images(count, size=32):
    """Images of noise whose class shows in their brightness."""
    rng = np.random.default_rng(0)
    targets = np.arange(count) % 5
    images = rng.integers(0, 100, (count, size, size)) + 30 * targets[:, None, None]
    masks = np.ones((count, size, size), np.uint8)
    params = PARAMS.model_copy(update={"normalisation": "divide"})
    return Pairs(images.astype(np.uint8), masks, np.arange(count), targets, params, segmented=True)


def score_images(output, ranks):
    """Mean and row of each of 680 images, the paper's test set, as rank 0 knows them."""
    data = images(680)
    loader = evaluation_loader(data, PARAMS, ranks, 64)
    rows, scores = evaluate(
        nn.Identity(), loader, PARAMS, ranks, lambda model, batch: batch[0].mean(dim=(1, 2, 3))[:, None]
    )
    if ranks.leads:
        np.savez(output, rows=rows, scores=scores)


def train_frozen(output, ranks, parts=1):
    """ResNet34 whose batch norms stay as they are: they would see other batches on each rank."""
    torch.manual_seed(0)
    model = create_model("resnet34").double()  # in single precision ReLUs would make much of rounding
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.requires_grad_(False)
        norm.train = lambda mode=True, norm=norm: norm  # stays in evaluation mode
        norm.training = False
    optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.01, 0.9)
    training = Training(
        folder=output.with_suffix(""),
        key={"parameters": {}, "inputs": {}, "code": {}},
        seeds=(0, 1),
        model=model,
        optimiser=optimiser,
        scheduler=torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=2),
        loss=lambda network, batch: F.cross_entropy(network(batch[0].double()), batch[2]),
        validate=lambda network: {},
        data=images(40),
        epochs=2,
        batch_size=12,
        scaler=loss_scaler(PARAMS, ranks.device),
    )
    history = fit(training, PARAMS.model_copy(update={"accumulate": parts}), ranks)
    if ranks.leads:
        state = {name: value.contiguous() for name, value in model.state_dict().items()}
        save_file(state | {"losses": torch.tensor(history["train_loss"].to_numpy())}, output)


if __name__ == "__main__":
    torch.set_num_threads(1)
    with joined(PARAMS.model_copy(update={"devices": int(os.environ["WORLD_SIZE"])})) as here:
        {"evaluate": score_images, "train": train_frozen}[sys.argv[1]](
            Path(sys.argv[2]), here, *map(int, sys.argv[3:])
        )
