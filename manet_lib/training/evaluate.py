"""Scoring every image of a set once, on any number of ranks."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader

from manet_lib.data.augment import EpochOrder, Pairs
from manet_lib.params import Params, UserError
from manet_lib.training.distributed import Ranks
from manet_lib.training.loop import Batch, autocast, batches, memory_named, part_size, to_device


def evaluation_loader(data: Pairs, params: Params, ranks: Ranks, batch_size: int) -> DataLoader[Any]:
    """A loader for :func:`evaluate`; to be kept where a set is evaluated again, as its workers stay.

    Args:
        data: not augmented.
        params: machine settings.
        ranks: this process.
        batch_size: of the training, which a step of evaluation does not exceed.
    """
    order = EpochOrder(len(data), (0, 0), shuffle=False, rank=ranks.rank, world=ranks.world)
    return batches(data, params, ranks, order, part_size(params, batch_size))


def evaluate(
    model: nn.Module,
    loader: DataLoader[Any],
    params: Params,
    ranks: Ranks,
    score: Callable[[nn.Module, Batch], Tensor],
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Score every image of a set exactly once, on any number of ranks, all with the network of rank 0.

    Args:
        model: on its device; left in evaluation mode. Its buffers become rank 0's.
        loader: from :func:`evaluation_loader`.
        params: machine settings.
        ranks: this process.
        score: per-image numbers (B, K) of a batch.

    Returns:
        Rows of the images in the manifest (N,) and their scores (N, K), in the order of the set, on every rank.

    Raises:
        UserError: memory ran out, or a score is not finite.
    """
    model.eval()
    ranks.share_buffers(model)
    data = loader.dataset
    assert isinstance(data, Pairs)
    scores, rows = [], []
    with torch.inference_mode(), autocast(params, ranks.device):
        for batch in loader:
            with memory_named("evaluation", batch[0], params):
                moved = to_device(batch, data, params, ranks.device)
                scores.append(score(model, moved).float().cpu().numpy())
            rows.append(batch[3].numpy())
    mine = (np.concatenate(rows), np.concatenate(scores)) if rows else None
    parts = [part for part in ranks.gather(mine) if part is not None]
    all_rows = np.concatenate([part[0] for part in parts])
    all_scores = np.concatenate([part[1] for part in parts])
    if not np.isfinite(all_scores).all():
        raise UserError(
            f"evaluation: {int((~np.isfinite(all_scores)).any(axis=1).sum())} of {len(all_scores)} images have "
            "scores that are not finite; set precision: bf16 or fp32, or lower the learning rate"
        )
    place = {int(row): position for position, row in enumerate(data.rows)}
    ordered = np.argsort([place[int(row)] for row in all_rows])
    return all_rows[ordered], all_scores[ordered]


def in_batches(count: int, size: int) -> Iterator[slice]:
    """Slices of at most ``size`` that cover ``range(count)``."""
    return (slice(start, min(start + size, count)) for start in range(0, count, size))
