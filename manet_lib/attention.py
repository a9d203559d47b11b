"""Grad-CAM maps (section 4.3) and what share of them lies in the lungs."""

from __future__ import annotations

import copy

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn

from manet_lib.artifacts import atomic_path
from manet_lib.data.augment import Pairs
from manet_lib.data.manifest import read_manifest
from manet_lib.data.scaling import resize
from manet_lib.params import Params, view
from manet_lib.paths import RunPaths
from manet_lib.steps import attention_step
from manet_lib.training.classification import load_classifier, segmented_pairs


class _Stacked(nn.Module):
    """A classifier that takes image and mask stacked in channels, as Grad-CAM passes one tensor only."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pair: Tensor) -> Tensor:
        return self.model(pair[:, :-1], pair[:, -1:])


def grad_cam(model: nn.Module, image: Tensor, mask: Tensor, target: Tensor) -> NDArray[np.float32]:
    """Where a classifier looks when it scores a class (Fig. 9; Selvaraju et al., 2017).

    Gradients are taken at ``model.cam_layer``, the last block with a spatial extent.

    Args:
        model: one of the ten classifiers; evaluated in evaluation mode, its weights unchanged. They may be frozen,
            and the call may stand under ``no_grad`` or ``inference_mode``.
        image: float (B, 1, H, W) in [-1, 1].
        mask: float (B, 1, H, W) in [0, 1].
        target: class number of each image, int (B,).

    Returns:
        float32 (B, H, W) in [0, 1], each map stretched to that range; all 0 where no feature speaks for the class,
        or where the last layer has a single place (Inception v3 below 107 pixels). The model is left in evaluation
        mode, with gradients.

    Raises:
        RuntimeError: Grad-CAM gave no map, as for a class that does not exist.
    """
    model.eval()
    targets = [ClassifierOutputTarget(int(number)) for number in target]
    maps = None  # the library swallows an IndexError inside its block
    with torch.inference_mode(False), torch.enable_grad():
        if any(tensor.is_inference() for tensor in (*model.parameters(), *model.buffers())):
            model = copy.deepcopy(model)  # weights made in inference mode take no part in a gradient
        pair = torch.cat([image.clone(), mask.clone()], dim=1).requires_grad_()  # frozen weights ask for none
        with GradCAM(_Stacked(model), [model.cam_layer]) as cam:
            maps = cam(pair, targets)
    if maps is None or maps.shape != (len(image), *image.shape[2:]) or not np.isfinite(maps).all():
        raise RuntimeError("Grad-CAM gave no map; is model.cam_layer part of the forward pass?")
    return np.clip(maps, 0, 1).astype(np.float32)


def share_inside(heat: NDArray[np.float32], region: NDArray[np.bool_]) -> float:
    """Share of a heat map's sum that lies inside a region; NaN for a map of zeros.

    Args:
        heat: float (H, W), not negative.
        region: bool (H, W).
    """
    total = float(heat.sum())
    return float(heat[region].sum()) / total if total > 0 else float("nan")


def lesion_path(mask_path: str) -> str:
    """Where a phantom's true lesion mask lies, from the path of its lung mask."""
    return mask_path.replace("masks/", "lesions/", 1)


def true_lesions(paths: RunPaths, films: pd.DataFrame, size: int) -> NDArray[np.bool_]:
    """True lesions of phantoms at the size of the networks: bool (N, S, S); none where nobody knows them."""
    lesions = np.zeros((len(films), size, size), dtype=bool)
    for number, mask_path in enumerate(films["mask_path"]):
        file = paths.phantoms / lesion_path(str(mask_path))
        if mask_path and file.is_file():
            lesions[number] = resize(np.asarray(Image.open(file)), (size, size), smooth=False) > 127
    return lesions


def chosen_films(manifest: pd.DataFrame, classes: list[str], per_class: int) -> pd.DataFrame:
    """The first test films of each class, in the order of the manifest; the index is the manifest's."""
    test = manifest[manifest["split"] == "test"]
    return pd.concat([test[test["label"] == label].head(per_class) for label in classes])


def heat_maps(
    params: Params, paths: RunPaths, films: pd.DataFrame, model: str, trial: int
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.uint8]]:
    """Grad-CAM maps of some films for their true class, as Fig. 9 shows them.

    Returns:
        Maps (N, S, S) in [0, 1], segmented films (N, S, S) in [-1, 1] and lung masks (N, S, S), 0 or 1.
    """
    manifest = read_manifest(paths)
    data: Pairs = segmented_pairs(params, paths, manifest.loc[films.index].assign(split="test"), ["test"])
    items = [data[0, position] for position in range(len(data))]
    image, mask = data.scale(torch.stack([item[0] for item in items])), torch.stack([item[1] for item in items])
    target = torch.tensor([item[2] for item in items])
    maps = grad_cam(load_classifier(params, paths, model, trial), image, mask.float(), target)
    return maps, image[:, 0].numpy(), mask[:, 0].numpy()


def score_attention(params: Params, paths: RunPaths, trained: list[tuple[str, int]]) -> bool:
    """Score the heat maps of all trained models on the same test films.

    ``scores.csv`` has one row per model, trial and film: image_id, label, lung_share, lung_area (share of the
    film that is lung: what a map without preference would score), and on phantoms lesion_share and lesion_area.

    Returns:
        Whether there was anything to do.
    """
    return attention_step(params, paths, trained).run(lambda: _score(view(params, "attention"), paths, trained))


def _score(params: Params, paths: RunPaths, trained: list[tuple[str, int]]) -> None:
    with atomic_path(paths.attention / "scores.csv") as temporary:
        attention_scores(params, paths, trained).to_csv(temporary, index=False, float_format="%.6f")


def attention_scores(params: Params, paths: RunPaths, trained: list[tuple[str, int]]) -> pd.DataFrame:
    """Score the heat maps of trained models; the rows of ``scores.csv``, see :func:`score_attention`."""
    films = chosen_films(read_manifest(paths), params.classes, params.cam_per_class)
    rows = []
    for model, trial in trained:
        maps, _, masks = heat_maps(params, paths, films, model, trial)
        lesions = true_lesions(paths, films, maps.shape[-1])
        for film, heat, mask, lesion in zip(films.itertuples(), maps, masks, lesions, strict=True):
            row = {"model": model, "trial": trial, "image_id": film.image_id, "label": film.label}
            row |= {"lung_share": share_inside(heat, mask > 0), "lung_area": float(mask.mean())}
            if lesion.any():
                row |= {"lesion_share": share_inside(heat, lesion), "lesion_area": float(lesion.mean())}
            rows.append(row)
    return pd.DataFrame(rows)
