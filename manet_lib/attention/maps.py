"""Grad-CAM maps (section 4.3) of a run's images."""

import copy
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn

from manet_lib.data.augment import Pairs
from manet_lib.data.scaling import resize
from manet_lib.data.seeds import stable_hash
from manet_lib.data.store import Store
from manet_lib.models import classifier_of
from manet_lib.params import Params
from manet_lib.paths import RunPaths
from manet_lib.training.classification import load_classifier

_AT_ONCE = 8
"""Images whose activations are held at once."""


class _Stacked(nn.Module):
    """A classifier that takes image and mask stacked in channels, as Grad-CAM passes one tensor only."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pair: Tensor) -> Tensor:
        return self.model(pair[:, :-1], pair[:, -1:])


CAM_PLACES = 4
"""Smallest height of a heat map in positions, if the network has a layer that provides it."""


def cam_layer_at(model: nn.Module, image_size: int) -> nn.Module:
    """The layer whose features make the heat map of images of some size: the last block, as in section 4.3.

    At small sizes the last map of a ResNet has 2×2 or 3×3 positions; then the stage before the last is taken.

    Args:
        model: one of the ten classifiers.
        image_size: height and width of the images in pixels.
    """
    layers: list[nn.Module] = getattr(model, "cam_layers", [model.cam_layer])
    return next((layer for layer in layers if places_of(model, layer, image_size) >= CAM_PLACES), layers[0])


def places_of(model: nn.Module, layer: nn.Module, image_size: int) -> int:
    """Height in places of the features that a layer of a classifier makes of an image of some size."""
    sides: list[int] = []
    handle = layer.register_forward_hook(lambda called, given, made: sides.append(made.shape[-2]))
    weight = next(model.parameters())
    blank = torch.zeros(1, 1, image_size, image_size, dtype=weight.dtype, device=weight.device)
    mode = model.training
    try:
        with torch.no_grad():
            model.eval()(blank, blank)
    finally:
        handle.remove()
        model.train(mode)
    return sides[0]


def grad_cam(model: nn.Module, image: Tensor, mask: Tensor, target: Tensor) -> NDArray[np.float32]:
    """Where a classifier looks when it scores a class (Fig. 9; Selvaraju et al., 2017).

    Gradients are taken at the layer that :func:`cam_layer_at` chooses for the size of the images.

    Args:
        model: one of the ten classifiers; evaluated in evaluation mode, its weights unchanged. They may be frozen,
            and the call may stand under ``no_grad`` or ``inference_mode``.
        image: float (B, 1, H, W) in [-1, 1].
        mask: float (B, 1, H, W) in [0, 1].
        target: class number of each image, int (B,).

    Returns:
        float32 (B, H, W) in [0, 1], each map stretched to that range; all 0 where no feature raises its score,
        or where the chosen layer has a single place (Inception v3 below 107 pixels). The model is left in
        evaluation mode, with gradients.

    Raises:
        RuntimeError: Grad-CAM gave no map, as for a class that does not exist.
    """
    model.eval()
    with torch.inference_mode(False), torch.enable_grad():
        if any(tensor.is_inference() for tensor in (*model.parameters(), *model.buffers())):
            model = copy.deepcopy(model)  # weights made in inference mode take no part in a gradient
        parts = [slice(start, start + _AT_ONCE) for start in range(0, len(image), _AT_ONCE)]
        layer = cam_layer_at(model, image.shape[-1])
        maps = np.concatenate([_grad_cam(model, layer, image[part], mask[part], target[part]) for part in parts])
    return np.clip(maps, 0, 1).astype(np.float32)


def _grad_cam(
    model: nn.Module, layer: nn.Module, image: Tensor, mask: Tensor, target: Tensor
) -> NDArray[np.float32]:
    targets = [ClassifierOutputTarget(int(number)) for number in target]
    maps = None  # the library swallows an IndexError inside its block
    pair = torch.cat([image.clone(), mask.clone()], dim=1).requires_grad_()  # frozen weights ask for none
    with GradCAM(_Stacked(model), [layer]) as cam:
        maps = cam(pair, targets)
    if maps is None or maps.shape != (len(image), *image.shape[2:]) or not np.isfinite(maps).all():
        raise RuntimeError("Grad-CAM gave no map; is its layer part of the forward pass?")
    return maps


def lesion_path(mask_path: str) -> str:
    """Where a phantom's true lesion mask lies, from the path of its lung mask."""
    return mask_path.replace("masks/", "lesions/", 1)


def true_lesions(paths: RunPaths, images: pd.DataFrame, size: int) -> NDArray[np.bool_]:
    """True lesions of phantoms at the size of the networks: bool (N, S, S); none where nobody knows them."""
    lesions = np.zeros((len(images), size, size), dtype=bool)
    for number, mask_path in enumerate(images["mask_path"]):
        file = paths.phantoms / lesion_path(str(mask_path))
        if mask_path and file.is_file():
            lesions[number] = resize(np.asarray(Image.open(file)), (size, size), smooth=False) > 127
    return lesions


def chosen_images(manifest: pd.DataFrame, classes: list[str], per_class: int) -> pd.DataFrame:
    """Test images of each class, sampled at random, the same in every call; the index is the manifest's."""
    test = manifest[manifest["split"] == "test"]
    drawn = []
    for label in classes:
        part = test[test["label"] == label]
        seed = stable_hash("films for attention", label, len(part))
        drawn.append(part.sample(min(per_class, len(part)), random_state=seed))
    return pd.concat(drawn)


@dataclass(frozen=True)
class Inputs:
    """Some images as stage 2 sees them.

    Attributes:
        image: segmented images, float (N, 1, S, S) in [-1, 1].
        mask: what MA gets, float (N, 1, S, S), 0 or 1.
        target: class number of each image, int (N,).
        lungs: the lung masks, bool (N, S, S).
    """

    image: Tensor
    mask: Tensor
    target: Tensor
    lungs: NDArray[np.bool_]


def inputs_of(
    params: Params, paths: RunPaths, images: pd.DataFrame, masks: NDArray[np.bool_] | None = None
) -> Inputs:
    """Some images, segmented by the masks of the run, or by others, (N, S, S), in the same order."""
    stored = Store.open(paths.store).images[images.index]
    own = np.load(paths.clean_masks, mmap_mode="r")[images.index] if masks is None else masks.astype(np.uint8)
    place = {name: number for number, name in enumerate(params.classes)}
    targets = images["label"].map(place).to_numpy(np.int64, copy=True)
    data = Pairs(stored, own, np.arange(len(images)), targets, params, segmented=True)
    items = [data[0, position] for position in range(len(data))]
    image, mask = torch.stack([item[0] for item in items]), torch.stack([item[1] for item in items])
    return Inputs(data.scale(image), mask.float(), torch.from_numpy(targets), own > 0)


def fresh_classifier(params: Params, model: str, trial: int) -> nn.Module:
    """An untrained classifier in evaluation mode, with initial weights, the same in every call."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stable_hash("untrained", model, trial))
        drawn = classifier_of(params, model)
    return drawn.eval()


def heat_maps(
    params: Params, paths: RunPaths, images: pd.DataFrame, model: str, trial: int
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.uint8]]:
    """Grad-CAM maps of some images for their true class, as Fig. 9 shows them.

    Returns:
        Maps (N, S, S) in [0, 1], segmented images (N, S, S) in [-1, 1] and lung masks (N, S, S), 0 or 1.
    """
    seen = inputs_of(params, paths, images)
    maps = grad_cam(load_classifier(params, paths, model, trial), seen.image, seen.mask, seen.target)
    return maps, seen.image[:, 0].numpy(), seen.lungs.astype(np.uint8)
