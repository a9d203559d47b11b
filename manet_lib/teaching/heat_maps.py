"""Checks of exercises on heat maps (05)."""

import copy
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from manet_lib.attention.maps import grad_cam
from manet_lib.attention.probes import similarity
from manet_lib.attention.scores import centre_blob
from manet_lib.data.phantom import draw_phantom
from manet_lib.data.scaling import to_signed
from manet_lib.params import CLASSES
from manet_lib.teaching.verdict import NotYet, ask, check, close, numbers, picture, refuse

Map = NDArray[np.float32]

FEATURES = np.array([[[4, 2, 0], [2, 1, 0], [0, 0, 0]], [[0, 0, 1], [0, 1, 2], [0, 2, 4]]], float)
"""Two feature maps of 3×3 positions."""

GRADIENTS = np.array([[[2, 1, 1], [1, 1, 1], [1, 1, 0]], [[-1, 0, 0], [0, -1, 0], [0, 0, -2.5]]], float)
"""What a class's score gains by each position of ``FEATURES``."""


@check
def check_cam(answer: Any) -> str:
    """05, first exercise: Grad-CAM of ``FEATURES`` and ``GRADIENTS``, not stretched."""
    found = picture(answer, (3, 3), "map", ", as the features are").astype(float)
    means = GRADIENTS.mean(axis=(1, 2), keepdims=True)
    raw = (means * FEATURES).sum(axis=0)
    wanted = np.maximum(raw, 0)
    each, cut = np.maximum((GRADIENTS * FEATURES).sum(axis=0), 0), np.maximum(means * FEATURES, 0).sum(axis=0)
    mistakes = {
        "the negative positions are still there: a map shows what raises the score, so set them to 0": raw,
        "the gradient of each position is multiplied; average it over the positions of its feature first": each,
        "the gradients are summed; their mean is the weight of a feature": 9 * wanted,
        "the features are added without weights": FEATURES.sum(axis=0),
        "each feature is cut at 0 before the sum; the second one cannot take off anything then": cut,
    }
    refuse(found, wanted, mistakes)
    if not close(found, wanted, 6e-3):
        row, column = (int(place) for place in np.argwhere(~np.isclose(found, wanted, atol=6e-3))[0])
        raise NotYet(
            f"row {row}, column {column} is {wanted[row, column]:.2f} and not {found[row, column]:.2f}; the "
            f"weights of the two features are {means[0, 0, 0]:.2f} and {means[1, 0, 0]:.2f}."
        )
    return "the second feature lowers the score, so that its corner is 0 however bright it is."


@check
def check_share(share_and_chance: Callable[[Map, NDArray[np.bool_]], tuple[float, float]]) -> str:
    """05, second exercise: share of a map's sum in the lungs, and the same of a map without any preference."""
    rng, blob, blobs = np.random.default_rng(0), centre_blob(48), []
    for patient in range(4):
        lungs = draw_phantom("normal", patient, size=48).lungs
        heat = rng.random((48, 48)).astype(np.float32) ** 3 + 3 * blob
        pair = numbers(ask(share_and_chance, heat, lungs), ("share", "chance"))
        wanted, chance = float(heat[lungs].sum() / heat.sum()), float(lungs.mean())
        bright = (heat[lungs] > 0).sum() / (heat > 0).sum()
        mistakes = {
            "is the mean of the map in the lungs; divide sums": heat[lungs].mean(),
            "is the share of the pixels above 0, which hides how bright they are": bright,
            "is the share *outside*": 1 - wanted,
        }
        refuse(pair[0], wanted, mistakes, f"{pair[0]:.3f} ")
        if not close(pair[0], wanted):
            raise NotYet(
                f"on image {patient}, {wanted:.3f} of the map's sum is in the lungs, and you say {pair[0]:.3f}."
            )
        if close(pair[1], 0.5) or not close(pair[1], chance):
            raise NotYet(
                f"chance is not {pair[1]:.3f}: a map that is the same everywhere has the area of the lungs, "
                f"{chance:.3f}."
            )
        blobs.append(float(blob[lungs].sum() / blob.sum()))
    with np.errstate(invalid="ignore"):
        empty = np.asarray(ask(share_and_chance, np.zeros((48, 48), np.float32), lungs), dtype=float).ravel()
    if not np.isnan(empty[0]):
        raise NotYet(
            "a map of zeros has no share: it is neither inside nor outside; answer `nan`, which `np.nanmean` "
            "leaves out."
        )
    return (
        f"the lungs are {100 * chance:.0f}% of the last image, and a blob in the middle, which does not depend on "
        f"it, has {100 * np.mean(blobs):.0f}% in the lungs on average. A share alone says nothing."
    )


class TinyCNN(nn.Module):
    """A CNN of two convolutions whose last convolutional layer is ``cam_layer``; the mask is ignored."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, 8, 5, stride=2, padding=2), nn.BatchNorm2d(8), nn.ReLU())
        self.cam_layer = nn.Sequential(nn.Conv2d(8, 16, 5, stride=2, padding=2), nn.BatchNorm2d(16), nn.ReLU())
        self.fc = nn.Linear(16, len(CLASSES))

    def forward(self, image: Tensor, mask: Tensor | None = None) -> Tensor:
        """Logits (B, 5) of an image (B, 1, H, W)."""
        return self.fc(self.cam_layer(self.first(image)).mean(dim=(2, 3)))


@cache
def some_images() -> tuple[Tensor, Tensor, Tensor]:
    """Images (N, 1, 48, 48) in [-1, 1], lung masks (N, 1, 48, 48) and class numbers (N,) of 40 phantoms."""
    phantoms = [draw_phantom(CLASSES[number % 5], number, size=48) for number in range(40)]
    image = to_signed(torch.from_numpy(np.stack([phantom.image * phantom.lungs for phantom in phantoms])))
    mask = torch.from_numpy(np.stack([phantom.lungs for phantom in phantoms])).float()
    return image[:, None], mask[:, None], torch.arange(40) % 5


@cache
def _trained() -> TinyCNN:
    with torch.random.fork_rng(devices=[]), torch.inference_mode(False), torch.enable_grad():
        torch.manual_seed(0)
        network = TinyCNN()
        image, mask, target = some_images()
        optimiser = torch.optim.Adam(network.parameters(), lr=0.01)
        for _ in range(60):
            optimiser.zero_grad()
            nn.functional.cross_entropy(network(image, mask), target).backward()
            optimiser.step()
    return network.eval()


def trained_cnn() -> TinyCNN:
    """A copy of a :class:`TinyCNN` that has learnt :func:`some_images` a little, in evaluation mode."""
    return copy.deepcopy(_trained())


@check
def check_redrawn(redrawn: Callable[[nn.Module, int], nn.Module]) -> str:
    """05, third exercise: a copy of a network whose convolutions and linear layers have fresh weights."""
    network = trained_cnn()
    before = copy.deepcopy(network.state_dict())
    fresh, other, again = (ask(redrawn, network, seed) for seed in (1, 2, 1))
    if not isinstance(fresh, nn.Module):
        raise NotYet(f"a network is asked for, and this is of type {type(fresh).__name__}.")
    if any(not torch.equal(before[name], value) for name, value in network.state_dict().items()):
        raise NotYet("the trained network itself has changed: draw the weights of a `copy.deepcopy` of it.")
    layers = [name for name, part in network.named_modules() if isinstance(part, nn.Conv2d | nn.Linear)]
    for name in layers:
        old, new = (part.state_dict()[f"{name}.weight"] for part in (network, fresh))
        if torch.equal(old, new):
            raise NotYet(
                f"the weights of {name!r} are those of the trained network: `reset_parameters()` draws new ones."
            )
        if not new.any():
            raise NotYet(f"the weights of {name!r} are all 0, which is not random: the map would be empty.")
    weights = [nn.utils.parameters_to_vector(one.parameters()) for one in (fresh, other, again)]
    if torch.equal(weights[0], weights[1]):
        raise NotYet("two seeds give the same weights: call `torch.manual_seed(seed)` before you draw.")
    if not torch.equal(weights[0], weights[2]):
        raise NotYet(
            "the same seed gives other weights each time: call `torch.manual_seed(seed)` before you draw."
        )
    image, mask, target = (part[:10] for part in some_images())
    own = grad_cam(network, image, mask, target)
    others = [grad_cam(ask(redrawn, network, seed), image, mask, target) for seed in range(1, 6)]
    maps = np.concatenate(others)
    alike = [similarity(one, two) for one, two in zip(np.tile(own, (5, 1, 1)), maps, strict=True)]
    images = [similarity(one, two) for one, two in zip(own, np.roll(own, 1, axis=0), strict=True)]
    return (
        f"after five re-initialisations {int(maps.any(axis=(1, 2)).sum())} of {len(maps)} maps are not black. "
        f"Their mean rank correlation with the trained network's is {np.nanmean(alike):.2f} (Spearman's); that "
        f"of maps of different images is {np.nanmean(images):.2f}. Maps that stay as they were would show the "
        "image and not what was learnt."
    )
