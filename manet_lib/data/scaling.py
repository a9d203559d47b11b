"""Sizes and grey values of images as sections 2.2 and 2.3 want them."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor


def resize(image: NDArray[np.uint8], shape: tuple[int, int], *, smooth: bool = True) -> NDArray[np.uint8]:
    """Resize a grey picture to (height, width): area-weighted bilinear, or nearest neighbour for masks."""
    if image.shape == shape:
        return image
    method = Image.Resampling.BILINEAR if smooth else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(image).resize((shape[1], shape[0]), method))


def enlarged(pictures: NDArray[Any], side: int) -> NDArray[Any]:
    """Pictures (..., S, S) with each pixel repeated until a side has ``side`` pixels, a multiple of S."""
    times = side // pictures.shape[-1]
    return pictures.repeat(times, axis=-2).repeat(times, axis=-1)


def to_unit(images: Tensor, normalisation: str = "min_max") -> Tensor:
    """Scale images to [0, 1] (section 2.2).

    ``min_max`` takes each image's own minimum and maximum; a constant image becomes 0. ``divide`` divides by 255.

    Args:
        images: uint8 (..., H, W), on any device.
        normalisation: `min_max` or `divide`.

    Returns:
        float32 of the same shape, on the same device.
    """
    return _scale(images, normalisation, 1, 0)


def to_signed(images: Tensor, normalisation: str = "min_max") -> Tensor:
    """Scale segmented images to [-1, 1] (section 2.3); as :func:`to_unit`, but a constant image becomes -1."""
    return _scale(images, normalisation, 2, -1)


def _scale(images: Tensor, normalisation: str, length: int, start: int) -> Tensor:
    scaled = images.float()
    low, high = torch.zeros_like(scaled[..., :1, :1]), torch.full_like(scaled[..., :1, :1], 255)
    if normalisation == "min_max":
        low, high = scaled.amin((-2, -1), keepdim=True), scaled.amax((-2, -1), keepdim=True)
    return scaled.sub_(low).div_((high - low).clamp_(min=1)).mul_(length).add_(start)


def segment(image: NDArray[np.uint8], mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The segmented image of section 2.3: grey values inside the lungs, 0 outside; the mask is 0 or 1."""
    return image * mask


def seen(image: NDArray[np.uint8], mask: NDArray[np.uint8], view: str) -> NDArray[np.uint8]:
    """What stage 2 sees of an image: the `lungs` (the paper), the `whole`, the `background`, or the mask's
    `shape`.

    Args:
        image: uint8 (H, W).
        mask: of the lungs, uint8 0 or 1, (H, W).
        view: which of them; `background` is the image with the lungs blackened, `shape` has no grey value of it.
    """
    if view == "whole":
        return image
    if view == "shape":
        return mask * np.uint8(255)
    return segment(image, mask if view == "lungs" else 1 - mask)
