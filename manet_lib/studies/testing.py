"""Trained classifiers on images, or with lung masks, other than those of their own run."""

import numpy as np
from numpy.typing import NDArray
from torch import nn

from manet_lib.data.augment import Pairs
from manet_lib.data.postprocess import clean_mask
from manet_lib.params import Params
from manet_lib.paths import RunPaths
from manet_lib.training.classification import logits_of
from manet_lib.training.distributed import Ranks
from manet_lib.training.evaluate import evaluate, evaluation_loader
from manet_lib.training.segmentation import fill_raw_masks

Images = NDArray[np.uint8]


def logits_on(
    network: nn.Module, images: Images, masks: Images, params: Params, ranks: Ranks
) -> NDArray[np.float32]:
    """What a classifier predicts for images with their lung masks, as ``params.view`` shows them.

    Args:
        network: on its device, see :func:`manet_lib.training.loop.prepare`.
        images: uint8 (N, S, S).
        masks: uint8 0 or 1 (N, S, S).
        params: view, attention_mask and machine settings.
        ranks: this process.

    Returns:
        Logits (N, classes).
    """
    rows = np.arange(len(images))
    data = Pairs(images, masks, rows, np.zeros(len(rows), np.int64), params, segmented=True)
    loader = evaluation_loader(data, params, ranks, params.batch_size)
    return evaluate(network, loader, params, ranks, logits_of)[1]


def predicted_labels(network: nn.Module, images: Images, masks: Images, params: Params, ranks: Ranks) -> list[str]:
    """The class that a classifier gives each image; see :func:`logits_on`."""
    return [params.classes[number] for number in logits_on(network, images, masks, params, ranks).argmax(axis=1)]


def lung_masks(images: Images, params: Params, paths: RunPaths, ranks: Ranks) -> Images:
    """The masks that a run's stage 1 and post-processing give images: uint8 0 or 1, (N, S, S)."""
    found = np.empty_like(images)
    fill_raw_masks(found, images, params, paths, ranks.device, params.batch_size)
    clean = [clean_mask(mask.astype(bool), params.min_object_fraction) for mask in found]
    return np.stack(clean).astype(np.uint8)
