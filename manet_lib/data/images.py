"""Reading films and masks by content, and scaling them as sections 2.2 and 2.3 say."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from manet_lib.params import UserError

SMALLEST = 16
"""Films with fewer pixels than this on a side are refused: nothing could be seen on them."""


def read_grey(path: Path, data: bytes | None = None) -> NDArray[np.uint8]:
    """Read a film as 8-bit grey, whatever its file holds.

    The format is recognised by content. Palette, RGB and RGBA become grey (ITU-R 601-2), transparent pixels
    black; more than 8 bits and DICOM are stretched from their own minimum and maximum to 0..255 (DICOM after its
    VOI LUT, MONOCHROME1 inverted).

    Args:
        path: the file, named in messages.
        data: its bytes, if they have been read already.

    Returns:
        uint8, (H, W).

    Raises:
        UserError: the file is missing, empty, truncated, no image, or under ``SMALLEST`` pixels on a side.
    """
    pixels = _decode(path, _bytes(path) if data is None else data)
    if min(pixels.shape) < SMALLEST:
        height, width = pixels.shape
        raise UserError(f"{path.name}: {width}×{height} pixels; expected at least {SMALLEST} on each side")
    return pixels


def read_mask(path: Path, shape: tuple[int, int] | None, data: bytes | None = None) -> NDArray[np.bool_]:
    """Read a lung mask drawn for a film of the given shape.

    A mask of another size but the same proportions (within 2%) is resized by nearest neighbour.

    Args:
        path: the file, named in messages.
        shape: height and width of the film; None keeps the mask's own.
        data: its bytes, if they have been read already.

    Returns:
        bool, of that shape; True where the file is brighter than half its range.

    Raises:
        UserError: the file cannot be read, or its proportions are not those of the film.
    """
    pixels = _decode(path, _bytes(path) if data is None else data)
    height, width = shape or pixels.shape
    if abs(pixels.shape[1] * height / (pixels.shape[0] * width) - 1) > 0.02:
        raise UserError(
            f"{path.name}: a mask of {pixels.shape[1]}×{pixels.shape[0]} does not fit its film of {width}×{height}"
        )
    mask = pixels > (127 if pixels.max() > 1 else 0)
    return resize(mask.astype(np.uint8), (height, width), smooth=False).astype(bool)


def resize(image: NDArray[np.uint8], shape: tuple[int, int], *, smooth: bool = True) -> NDArray[np.uint8]:
    """Resize a grey picture to (height, width): area-weighted bilinear, or nearest neighbour for masks."""
    if image.shape == shape:
        return image
    method = Image.Resampling.BILINEAR if smooth else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(image).resize((shape[1], shape[0]), method))


def to_unit(films: Tensor, normalisation: str = "min_max") -> Tensor:
    """Scale films to [0, 1] (section 2.2).

    ``min_max`` takes each film's own minimum and maximum; a constant film becomes 0. ``divide`` divides by 255.

    Args:
        films: uint8 (..., H, W), on any device.
        normalisation: `min_max` or `divide`.

    Returns:
        float32 of the same shape, on the same device.
    """
    return _scale(films, normalisation, 1, 0)


def to_signed(films: Tensor, normalisation: str = "min_max") -> Tensor:
    """Scale segmented films to [-1, 1] (section 2.3); as :func:`to_unit`, but a constant film becomes -1."""
    return _scale(films, normalisation, 2, -1)


def _scale(films: Tensor, normalisation: str, length: int, start: int) -> Tensor:
    scaled = films.float()
    low, high = torch.zeros_like(scaled[..., :1, :1]), torch.full_like(scaled[..., :1, :1], 255)
    if normalisation == "min_max":
        low, high = scaled.amin((-2, -1), keepdim=True), scaled.amax((-2, -1), keepdim=True)
    return scaled.sub_(low).div_((high - low).clamp_(min=1)).mul_(length).add_(start)


def segment(image: NDArray[np.uint8], mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The segmented film of section 2.3: grey values inside the lungs, 0 outside; the mask is 0 or 1."""
    return image * mask


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path.name}: {(error.strerror or str(error)).lower()}") from None


def _decode(path: Path, data: bytes) -> NDArray[np.uint8]:
    if not data:
        raise UserError(f"{path.name}: the file is empty (0 bytes); fetch it again")
    if data[128:132] == b"DICM":
        return _decode_dicom(path, data)
    try:
        with Image.open(io.BytesIO(data)) as opened:
            opened.load()
            return picture_to_grey(opened)
    except UnidentifiedImageError:
        raise UserError(f"{path.name}: not an image that can be read (PNG, JPEG, TIFF, DICOM, ...)") from None
    except Exception as error:  # Pillow raises many kinds for broken files
        raise UserError(f"{path.name}: damaged or truncated: {' '.join(str(error).split())}") from None


def picture_to_grey(picture: Image.Image) -> NDArray[np.uint8]:
    """A picture of any mode as 8-bit grey (H, W); see :func:`read_grey`."""
    if picture.mode in ("L", "1") and "transparency" not in picture.info:
        return np.asarray(picture.convert("L"))
    if picture.mode.startswith(("I", "F")):
        return stretch(np.asarray(picture, dtype=np.float64))
    if "A" in picture.mode or "transparency" in picture.info:
        layered = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", layered.size, (0, 0, 0, 255)), layered)
    return np.asarray(picture.convert("RGB").convert("L"))


def _decode_dicom(path: Path, data: bytes) -> NDArray[np.uint8]:
    import pydicom
    from pydicom.pixels import apply_voi_lut

    try:
        dataset = pydicom.dcmread(io.BytesIO(data))
        values = np.asarray(apply_voi_lut(dataset.pixel_array, dataset), dtype=np.float64)
        if values.ndim != 2:
            raise ValueError(f"its shape is {values.shape}; expected one grey frame")
        return stretch(-values if dataset.PhotometricInterpretation == "MONOCHROME1" else values)
    except Exception as error:  # pydicom raises many kinds for broken files
        raise UserError(f"{path.name}: DICOM that cannot be read: {' '.join(str(error).split())}") from None


def stretch(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Stretch grey values from their own minimum and maximum to 0..255.

    Raises:
        ValueError: they are not all numbers.
    """
    low, high = values.min(), values.max()
    if not np.isfinite(high - low):
        raise ValueError("its pixels are not all numbers")
    return np.round((values - low) / max(high - low, 1e-12) * 255).astype(np.uint8)
