"""Whether heat maps can be believed: faithfulness to the network, and whether its weights matter to them."""

import copy
import itertools
from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from pytorch_grad_cam.metrics.road import NoisyLinearImputer
from scipy.stats import spearmanr
from torch import Tensor, nn

from manet_lib.attention.maps import chosen_images, fresh_classifier, grad_cam, inputs_of
from manet_lib.data.manifest import read_manifest
from manet_lib.data.seeds import stable_hash
from manet_lib.params import Params
from manet_lib.paths import RunPaths
from manet_lib.training.classification import load_classifier
from manet_lib.workflow.parameters import view
from manet_lib.workflow.progress import bar
from manet_lib.workflow.records import write_csv
from manet_lib.workflow.steps import probes_step

PATCHES = 16
"""Patches along each side that are removed or shown as a whole; also the side at which maps are compared."""

LEVELS = 10
"""Steps in which all patches of the lungs are removed or shown."""

ROAD_SHARES = (0.1, 0.3)
"""Of the lungs' pixels, imputed from their neighbours."""

CHANCES = 2
"""Random orders that a map is compared with."""

_CURVES = ("deletion", "insertion")

STAGES = 6
"""Steps in which the weights of a network are made random, from its last layer to its first."""

BLACK = -1.0
"""What stage 2 sees outside the lungs."""


def patch_means(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean of maps (N, S, S) over ``PATCHES`` × ``PATCHES`` patches: (N, PATCHES, PATCHES)."""
    pooled = nn.functional.adaptive_avg_pool2d(torch.from_numpy(maps)[:, None], PATCHES)
    return pooled[:, 0].numpy()


def probe_attention(params: Params, paths: RunPaths, trained: list[tuple[str, int]]) -> bool:
    """Probe the heat maps of all trained models on the same few test images.

    ``faithfulness.csv`` has one row per model, trial and image: model, trial, image_id, label, deletion and
    insertion (mean probability of the true class while the patches of the lungs are removed, or shown, in the
    order of the map), deletion_chance and insertion_chance (in random orders), and road (Rong et al., 2022: half
    the extra loss of probability when the highest places of the lungs are imputed instead of as many of the
    lowest). A map of zeros has none of them.

    ``sanity.csv`` has one row per model, trial, image and number of randomised stages: model, trial, image_id,
    stages, similarity (Spearman's correlation with the map of the trained network; with ``stages`` 0, with the
    maps of other images: the similarity of unrelated maps; see :func:`unrelated`).

    Returns:
        Whether there was anything to do.
    """
    return probes_step(params, paths, trained).run(lambda: _probe(view(params, "probes"), paths, trained))


def _probe(params: Params, paths: RunPaths, trained: list[tuple[str, int]]) -> None:
    images = chosen_images(read_manifest(paths), params.classes, params.probe_per_class)
    seen = inputs_of(params, paths, images)
    faithful, sane = [], []
    for model, trial in bar(trained, len(trained), "probing heat maps"):
        network = load_classifier(params, paths, model, trial)
        maps = grad_cam(network, seen.image, seen.mask, seen.target)
        who = {"model": model, "trial": trial}
        for number, image in enumerate(images.itertuples()):
            one = slice(number, number + 1)
            part = (seen.image[one], seen.mask[one], seen.lungs[number], int(seen.target[number]))
            scores = faithfulness(network, *part, maps[number], str(image.image_id))
            faithful.append(who | {"image_id": image.image_id, "label": image.label} | scores)
        alike = [unrelated(maps)]
        for random in randomised(network, fresh_classifier(params, model, trial)):
            others = grad_cam(random, seen.image, seen.mask, seen.target)
            alike.append([similarity(one, other) for one, other in zip(maps, others, strict=True)])
        for stages, values in enumerate(alike):
            for name, value in zip(images["image_id"], values, strict=True):
                sane.append(who | {"image_id": name, "stages": stages, "similarity": value})
    for name, rows in (("faithfulness.csv", faithful), ("sanity.csv", sane)):
        write_csv(paths.probes / name, pd.DataFrame(rows), "%.6f")


class _Masked(nn.Module):
    """Class scores of an image whose mask is fixed, so that nothing imputes the mask."""

    def __init__(self, model: nn.Module, mask: Tensor) -> None:
        super().__init__()
        self.model, self.mask = model, mask

    def forward(self, image: Tensor) -> Tensor:
        return self.model(image, self.mask.expand(len(image), -1, -1, -1))


def faithfulness(
    model: nn.Module,
    image: Tensor,
    mask: Tensor,
    lungs: NDArray[np.bool_],
    target: int,
    heat: NDArray[np.float32],
    name: str,
) -> dict[str, float]:
    """How an image's class probability follows its heat map, when places are removed or shown.

    See :func:`probe_attention`. Only the lungs count: what is outside is black already.

    Args:
        model: in evaluation mode.
        image: segmented image, float (1, 1, S, S) in [-1, 1].
        mask: what MA is given, float (1, 1, S, S).
        lungs: the lung mask, bool (S, S).
        target: class number.
        heat: its map, float (S, S) in [0, 1].
        name: of the image; seeds the random order and the imputed noise.
    """
    if not heat.any():
        return dict.fromkeys((*_CURVES, *(f"{curve}_chance" for curve in _CURVES), "road"), float("nan"))
    rng = np.random.default_rng(stable_hash("faithfulness", name))
    inside = patch_means(lungs[None].astype(np.float32))[0] > 0
    masked = _Masked(model, mask)

    def curves(order: NDArray[np.float64]) -> tuple[float, float]:
        removed = removal(np.where(inside, order, -1), int(inside.sum()))
        fine = nn.functional.interpolate(torch.from_numpy(removed)[:, None].float(), image.shape[2:]) > 0
        with torch.inference_mode():
            without = masked(image.masked_fill(fine, BLACK)).softmax(1)[:, target].numpy()
            only = masked(image.masked_fill(~fine, BLACK)).softmax(1)[:, target].numpy()
        return float(np.trapezoid(without, dx=1 / LEVELS)), float(np.trapezoid(only, dx=1 / LEVELS))

    own = patch_means(heat[None])[0] + 1e-9 * rng.random(inside.shape)  # ties in no order that anatomy knows
    chance = np.mean([curves(rng.random(inside.shape)) for _ in range(CHANCES)], axis=0)
    found = dict(zip(_CURVES, curves(own), strict=True))
    found |= {f"{curve}_chance": float(value) for curve, value in zip(_CURVES, chance, strict=True)}
    return found | {"road": _road(masked, image, target, lungs, heat, name)}


def _road(
    masked: nn.Module, image: Tensor, target: int, lungs: NDArray[np.bool_], heat: NDArray[np.float32], name: str
) -> float:
    """Half the extra loss if the highest places of the lungs are imputed instead of as many of the lowest."""
    rng = np.random.default_rng(stable_hash("road", name))
    places = np.flatnonzero(lungs)
    falling = places[np.lexsort((rng.random(len(places)), -heat.ravel()[places]))]
    differences = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stable_hash("road", name))
        for share in ROAD_SHARES:
            count = max(1, round(share * len(places)))
            kept = np.ones((2, lungs.size), np.float32)
            kept[0, falling[:count]] = kept[1, falling[-count:]] = 0
            imputed = [NoisyLinearImputer()(image[0], torch.from_numpy(one.reshape(lungs.shape))) for one in kept]
            with torch.inference_mode():
                without_high, without_low = masked(torch.stack(imputed)).softmax(1)[:, target].tolist()
            differences.append((without_low - without_high) / 2)
    return float(np.mean(differences))


def removal(order: NDArray[np.float64], count: int) -> NDArray[np.bool_]:
    """Which patches are removed at each of ``LEVELS`` + 1 levels, highest first: bool (LEVELS + 1, ...).

    Args:
        order: of the patches; those that are never removed have the lowest values.
        count: how many patches are removed at the last level.
    """
    rank = np.argsort(np.argsort(-order.ravel(), kind="stable"))
    steps = np.round(np.linspace(0, count, LEVELS + 1))
    return (rank[None] < steps[:, None]).reshape(LEVELS + 1, *order.shape)


def unrelated(maps: NDArray[np.float32]) -> list[float]:
    """How alike the maps (N, S, S) of different images are: one value for each, whose mean is that of all pairs.

    A map is part of N - 1 pairs. Its value is the mean of all pairs plus twice the difference of its own pairs'
    mean from that, so that the variance of the values' mean is that of a mean over pairs (a U statistic).
    """
    alike = np.full((len(maps), len(maps)), np.nan)
    for one, other in itertools.combinations(range(len(maps)), 2):
        alike[one, other] = alike[other, one] = similarity(maps[one], maps[other])
    known = ~np.isnan(alike)
    if not known.any():
        return [float("nan")] * len(maps)
    own = np.where(known, alike, 0).sum(axis=1) / np.where(known.any(axis=1), known.sum(axis=1), np.nan)
    mean = np.nanmean(own)
    return (mean + 2 * (own - mean)).tolist()


def randomised(network: nn.Module, fresh: nn.Module) -> Iterator[nn.Module]:
    """One copy of a network, yielded with ever more layers of a fresh one, last first (Adebayo et al., 2018)."""
    copied = copy.deepcopy(network)
    pairs = [
        (own, other)
        for own, other in zip(copied.modules(), fresh.modules(), strict=True)
        if any(True for _ in own.parameters(recurse=False))
    ]
    for part in np.array_split(np.arange(len(pairs))[::-1], STAGES):
        for number in part:
            own, other = pairs[number]
            own.load_state_dict(other.state_dict())
        yield copied.eval()


def similarity(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Spearman's correlation of two maps (S, S), patch by patch; NaN where one is the same everywhere."""
    one, other = (patch_means(heat[None]).ravel() for heat in (first, second))
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return float("nan")
    return float(spearmanr(one, other).statistic)


def repeatability(params: Params, paths: RunPaths, model: str, trials: list[int]) -> list[float]:
    """Similarity of the maps of the same image in the trials of a model, of every pair of trials and image."""
    images = chosen_images(read_manifest(paths), params.classes, params.probe_per_class)
    seen = inputs_of(params, paths, images)
    networks = (load_classifier(params, paths, model, trial) for trial in trials)
    maps = [grad_cam(network, seen.image, seen.mask, seen.target) for network in networks]
    pairs = itertools.combinations(maps, 2)
    return [similarity(one, other) for pair in pairs for one, other in zip(*pair, strict=True)]
