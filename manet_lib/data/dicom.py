"""Reading one grey frame from DICOM, as a viewer shows it."""

import io
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi_lut
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from manet_lib.data.images import check_size

DECODER = "python-gdcm"
"""The package that decompresses what pydicom and Pillow cannot: JPEG Lossless, JPEG-LS and JPEG 2000."""


def read_frame(data: bytes) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Decode an image and pass it through its modality LUT and its VOI LUT or window.

    An unusable window (of no width, or without numbers) is passed over, and an empty VOI LUT Function is linear.
    MONOCHROME1 is inverted.

    Args:
        data: the file, with or without preamble and meta header.

    Returns:
        Grey values (H, W), and where there is padding (Pixel Padding Value and its Range Limit). A picture in
        colours, such as a screenshot, is (H, W, 3) from 0 to 255.

    Raises:
        Exception: of many kinds, for broken files.
    """
    dataset = pydicom.dcmread(io.BytesIO(data.removeprefix(b"DICM")), force=True)
    _name_transfer_syntax(dataset)
    frames = int(_number(dataset.get("NumberOfFrames"), 1))
    if frames > 1:
        raise ValueError(f"holds {frames} frames; save each in a file of its own")
    check_size(int(dataset.Columns), int(dataset.Rows))
    stored = _decompress(dataset)
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        stored = apply_color_lut(stored, dataset)
    if stored.ndim == 3 and stored.shape[2] == 3:
        top = np.iinfo(stored.dtype).max
        return stored.astype(np.float64) * (255 / top), np.zeros(stored.shape[:2], bool)
    if stored.ndim != 2:
        raise ValueError(f"its shape is {stored.shape}; expected one picture")
    _mend(dataset)
    values = np.asarray(apply_modality_lut(stored, dataset), dtype=np.float64)
    if dataset.get("VOILUTSequence") and "LUTDescriptor" in dataset.VOILUTSequence[0]:
        values = np.asarray(apply_voi_lut(values.astype(np.int64), dataset), dtype=np.float64)
    elif (window := _window(dataset)) is not None:
        values = _windowed(values, *window, dataset.get("VOILUTFunction") or "LINEAR")
    return -values if dataset.PhotometricInterpretation == "MONOCHROME1" else values, _padding(stored, dataset)


def is_dicom(data: bytes) -> bool:
    """Whether bytes without a DICOM preamble are a DICOM image all the same."""
    try:
        dataset = pydicom.dcmread(io.BytesIO(data.removeprefix(b"DICM")), force=True, stop_before_pixels=True)
        return "Rows" in dataset and "Columns" in dataset and "PhotometricInterpretation" in dataset
    except Exception:  # pydicom raises many kinds for what is something else
        return False


def _name_transfer_syntax(dataset: pydicom.FileDataset) -> None:
    if "TransferSyntaxUID" not in dataset.file_meta:
        implicit, little = dataset.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit


def _decompress(dataset: pydicom.FileDataset) -> NDArray[Any]:
    dataset.pixel_array_options(correct_unused_bits=False)
    try:
        return _bits_stored(dataset.pixel_array, dataset)
    except RuntimeError as error:
        name = dataset.file_meta.TransferSyntaxUID.name
        if "missing dependencies" in str(error):
            raise ValueError(f"compressed as {name}, which needs another package; pip install {DECODER}") from None
        if "exceptions were raised" in str(error):
            raise ValueError(f"compressed as {name}, and its stream is damaged; fetch it again") from None
        raise


def _bits_stored(values: NDArray[Any], dataset: pydicom.FileDataset) -> NDArray[Any]:
    """The Bits Stored of each value, whatever its other bits hold (overlays) and wherever they lie (High Bit)."""
    if values.dtype.kind not in "iu":
        return values
    syntax, width = dataset.file_meta.TransferSyntaxUID, 8 * values.dtype.itemsize
    native = not syntax.is_encapsulated or syntax == RLELossless
    high = int(dataset.HighBit) if native else int(dataset.BitsStored) - 1
    moved = values.copy()
    moved <<= width - 1 - high
    moved >>= width - int(dataset.BitsStored)  # with its sign
    return moved


def _mend(dataset: pydicom.FileDataset) -> None:
    """Complete a modality rescale whose slope or intercept is missing or empty."""
    if "RescaleSlope" in dataset or "RescaleIntercept" in dataset:
        dataset.RescaleSlope = _number(dataset.get("RescaleSlope"), 1)
        dataset.RescaleIntercept = _number(dataset.get("RescaleIntercept"), 0)


def _number(value: object, otherwise: float) -> float:
    return otherwise if value is None or value == "" else float(str(value))


def _window(dataset: pydicom.FileDataset) -> tuple[float, float] | None:
    """Centre and width of the first window, or None where there is none that can be used."""

    def first(name: str) -> float:
        value = dataset.get(name)
        several = isinstance(value, pydicom.multival.MultiValue)
        return _number((value[0] if len(value) else None) if several else value, np.nan)

    centre, width = first("WindowCenter"), first("WindowWidth")
    linear = (dataset.get("VOILUTFunction") or "LINEAR") == "LINEAR"
    return (centre, width) if np.isfinite(centre) and (width > 1 if linear else width > 0) else None


def _windowed(values: NDArray[np.float64], centre: float, width: float, function: str) -> NDArray[np.float64]:
    """Grey values in [0, 1] by DICOM PS3.3, C.11.2.1.2 and C.11.2.1.3, in floating point."""
    if function == "SIGMOID":
        return 1 / (1 + np.exp(-4 * (values - centre) / width))
    if function == "LINEAR":
        centre, width = centre - 0.5, width - 1
    return np.clip((values - centre) / width + 0.5, 0, 1)


def _padding(stored: NDArray[np.generic], dataset: pydicom.FileDataset) -> NDArray[np.bool_]:
    value = dataset.get("PixelPaddingValue")
    if value is None or value == "":
        return np.zeros(stored.shape, bool)
    limit = _number(dataset.get("PixelPaddingRangeLimit"), int(value))
    low, high = sorted((int(value), int(limit)))
    return np.asarray((stored >= low) & (stored <= high))  # type: ignore[operator]
