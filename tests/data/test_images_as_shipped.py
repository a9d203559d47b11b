"""Images and masks as devices, archives and drawing tools write them; every file is made here."""

from __future__ import annotations

import base64
import io
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin, UnidentifiedImageError
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders import JPEGLosslessSV1Decoder
from pydicom.uid import (
    JPEG2000,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from manet_lib.data.images import picture_to_grey, read_grey, read_mask
from manet_lib.data.store import Store, build_store
from manet_lib.params import Params
from manet_lib.paths import RunPaths

Y, X = np.mgrid[:40, :48]
IMAGE = (Y * 60 + X * 30 + 100).astype(np.int32)
"""An image of 12 bits, 100 to 3850, as its values are after the modality LUT."""
GREY = (Y * 3 + X * 2).astype(np.uint8)
STEPS = (np.kron(np.arange(16).reshape(4, 4), np.ones((8, 8), int)) * 200 + 90).astype(np.uint16)
"""What the JPEG-LS stream below holds: sixteen squares, 90 to 3090."""
STEPS_LS = base64.b64decode(
    "/9j/6AAgU1BJRkYAAgAAAQAAACAAAAAgChAGAQAAASwAAAEs/+gACAAAAAH/2P/3AAsQACAAIAEBEQD/+AANAf//ABIAQwEUAED/2gAIAQEA"
    "AAAASzgBAEAQCAQCACPgBAEAQCAQCACPgUFBQUFBQQjYSEhISEhIkAPsAOwBuAPiAXALgHSATgJwHCAeAnAcIB4CcBwgPAnA4QHgTgYMfxIk"
    "KFChQAshChQoUKFAFjoUKFChQoA4yFChQooooATgTgTgcIDwJwOEB4E4HCA8E4OEDwTg4QPBODhA8E4MGP4ooIIIIBxUEEEEEEA4iCCCCCCA"
    "cNBBBBBBBAE4JwTg4QPBODhA8E4OEDwTg4QPBODhA8E4OEDwTgwY/gggghCAcJCEIQhAcFCEIQhAcBCEIQhCAJwnCcOEHhOHCDwnDhB4Thwg"
    "8Jw4QeE4cIPCcMD/2Q=="
)


def _image(pixels: NDArray[Any], **elements: Any) -> Dataset:
    """A grey DICOM data set of 16-bit pixels, signed if they are, without a meta header."""
    dataset = Dataset()
    dataset.SOPClassUID = pydicom.uid.DigitalXRayImageStorageForPresentation
    dataset.SOPInstanceUID = "1.2.3"
    dataset.Modality = "DX"
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.BitsAllocated = dataset.BitsStored = pixels.dtype.itemsize * 8
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.PixelData = pixels.tobytes()
    for name, value in elements.items():
        setattr(dataset, name, value)
    return dataset


def _file(dataset: Dataset, syntax: str = ExplicitVRLittleEndian, stream: bytes = b"") -> bytes:
    """The bytes of a DICOM file, its pixels uncompressed or this compressed stream."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = dataset.SOPClassUID, dataset.SOPInstanceUID
    if stream:
        dataset.PixelData = encapsulate([stream])
        dataset["PixelData"].VR = "OB"
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, FileDataset("", dataset, preamble=b"\0" * 128, file_meta=meta))
    return buffer.getvalue()


def _dicom(pixels: NDArray[Any], **elements: Any) -> NDArray[np.int64]:
    """What is read of a DICOM image, as integers that may be subtracted."""
    return _read(_file(_image(pixels, **elements)), "image.dcm")


def _read(data: bytes, name: str = "image.png") -> NDArray[np.int64]:
    pixels = read_grey(Path(name), data)
    assert pixels.dtype == np.uint8
    return pixels.astype(int)


def _window(values: NDArray[Any], centre: float, width: float) -> NDArray[Any]:
    """The LINEAR function of DICOM PS3.3 C.11.2.1.2, to 0..1."""
    return ((values - (centre - 0.5)) / (width - 1) + 0.5).clip(0, 1)


def _stretched(values: NDArray[Any]) -> NDArray[Any]:
    return (values - values.min()) / (values.max() - values.min()) * 255.0


def _encoded(picture: Image.Image | NDArray[Any], kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(buffer, kind, **options)
    return buffer.getvalue()


class TestModality:
    """Rescale Slope and Intercept, or a table, come before the window."""

    affine = pytest.mark.parametrize(
        ("stored", "slope", "intercept"),
        [
            pytest.param(IMAGE, 1, 0, id="no change"),
            pytest.param(IMAGE, 0.25, 0, id="slope of a quarter"),
            pytest.param(IMAGE, 4, 0, id="slope of four"),
            pytest.param(IMAGE, 1, -1024, id="intercept"),
            pytest.param(IMAGE, 0.5, 1000.5, id="slope and intercept"),
            pytest.param(4095 - IMAGE, -1, 4095, id="negative slope"),
            pytest.param(4095 - IMAGE, -0.25, 10, id="negative slope of a quarter"),
            pytest.param((IMAGE - 2048).astype(np.int16), 1, 2048, id="signed pixels"),
            pytest.param((2047 - IMAGE).astype(np.int16), -2, -7, id="signed pixels and negative slope"),
        ],
    )

    @affine
    @pytest.mark.parametrize("kind", ["MONOCHROME2", "MONOCHROME1"])
    @pytest.mark.parametrize("windowed", [True, False], ids=["window", "no window"])
    def test_the_image_is_the_same(
        self, stored: NDArray[Any], slope: float, intercept: float, kind: str, windowed: bool
    ) -> None:
        stored = stored if stored.dtype == np.int16 else stored.astype(np.uint16)
        values = stored.astype(float) * slope + intercept
        span = np.ptp(values) / np.ptp(IMAGE)  # of a step of the plain image
        centre, width = values.min() + (2000 - IMAGE.min()) * span, 2000 * span
        elements = {"WindowCenter": centre, "WindowWidth": width} if windowed else {}
        expected = _stretched(_window(IMAGE, 2000, 2000)) if windowed else _stretched(IMAGE)
        pixels = _dicom(
            stored,
            PhotometricInterpretation=kind,
            RescaleSlope=f"{slope:g}",
            RescaleIntercept=f"{intercept:g}",
            **elements,
        )
        assert np.abs(pixels - (expected if kind == "MONOCHROME2" else 255 - expected)).max() <= 1

    @pytest.mark.parametrize(
        "elements",
        [
            pytest.param({"RescaleSlope": "", "RescaleIntercept": ""}, id="both empty"),
            pytest.param({"RescaleSlope": "1", "RescaleIntercept": ""}, id="empty intercept"),
            pytest.param({"RescaleIntercept": "-1024"}, id="intercept alone"),
            pytest.param({"RescaleSlope": "2"}, id="slope alone"),
        ],
    )
    def test_a_missing_half_changes_nothing(self, elements: dict[str, str]) -> None:
        assert np.abs(_dicom(IMAGE.astype(np.uint16), **elements) - _stretched(IMAGE)).max() <= 1

    def test_a_negative_slope_alone_is_a_negative(self) -> None:
        assert np.abs(_dicom((4095 - IMAGE).astype(np.uint16), RescaleSlope="-1") - _stretched(IMAGE)).max() <= 1

    def test_a_table_is_looked_up(self) -> None:
        table = Dataset()
        table.LUTDescriptor = [4096, 0, 16]
        table.ModalityLUTType = "US"
        table.LUTData = (4095 - np.arange(4096)).astype(np.uint16).tobytes()
        table["LUTData"].VR = "OW"
        assert (
            np.abs(_dicom((4095 - IMAGE).astype(np.uint16), ModalityLUTSequence=[table]) - _stretched(IMAGE)).max()
            <= 1
        )


class TestPadding:
    """Pixels that no ray has met: they take no part in the stretch, and are black however the image is shown."""

    collimated = (X < 5) | (X >= 44) | (Y >= 36)

    @pytest.mark.parametrize(
        ("low", "high", "dtype"),
        [
            pytest.param(0, None, np.uint16, id="0"),
            pytest.param(65535, None, np.uint16, id="65535"),
            pytest.param(4095, None, np.uint16, id="4095"),
            pytest.param(-2000, None, np.int16, id="signed"),
            pytest.param(0, 60, np.uint16, id="0 with a limit above"),
            pytest.param(65535, 65000, np.uint16, id="65535 with a limit below"),
            pytest.param(-2000, -1900, np.int16, id="signed with a limit"),
        ],
    )
    @pytest.mark.parametrize("kind", ["MONOCHROME2", "MONOCHROME1"])
    @pytest.mark.parametrize("windowed", [True, False], ids=["window", "no window"])
    @pytest.mark.parametrize("slope", [1.0, 0.25, -1.0])
    def test_padding_is_black_and_the_rest_as_without(
        self, low: int, high: int | None, dtype: type, kind: str, windowed: bool, slope: float
    ) -> None:
        limits = sorted((low, low if high is None else high))
        noise = np.random.default_rng(0).integers(limits[0], limits[1] + 1, IMAGE.shape)
        stored = np.where(self.collimated, noise, IMAGE).astype(dtype)
        elements: dict[str, Any] = {"PixelPaddingValue": low} | (
            {} if high is None else {"PixelPaddingRangeLimit": high}
        )
        if windowed:
            elements |= {"WindowCenter": 2000 * slope, "WindowWidth": 2000 * abs(slope)}
        pixels = _dicom(
            stored, PhotometricInterpretation=kind, RescaleSlope=f"{slope:g}", RescaleIntercept="0", **elements
        )
        values = IMAGE * slope
        values = _window(values, 2000 * slope, 2000 * abs(slope)) if windowed else values
        inside = ~self.collimated
        expected = (values - values[inside].min()) / np.ptp(values[inside]) * 255
        expected = 255 - expected if kind == "MONOCHROME1" else expected
        assert np.abs(pixels - np.where(inside, expected, 0)).max() <= 1

    def test_a_value_that_does_not_occur_changes_nothing(self) -> None:
        assert np.array_equal(
            _dicom(IMAGE.astype(np.uint16), PixelPaddingValue=0), _dicom(IMAGE.astype(np.uint16))
        )

    def test_a_limit_without_a_value_changes_nothing(self) -> None:
        pixels = _dicom(IMAGE.astype(np.uint16), PixelPaddingRangeLimit=500)
        assert np.array_equal(pixels, _dicom(IMAGE.astype(np.uint16)))

    def test_a_image_of_padding_alone_is_black(self) -> None:
        assert _dicom(np.full((40, 48), 7, np.uint16), PixelPaddingValue=7).max() == 0


class TestWindow:
    stored = IMAGE.astype(np.uint16)

    @pytest.mark.parametrize(
        "elements",
        [
            pytest.param({}, id="none"),
            pytest.param({"WindowCenter": "0", "WindowWidth": "0"}, id="width 0"),
            pytest.param({"WindowCenter": "2000", "WindowWidth": "0"}, id="width 0 with a centre"),
            pytest.param({"WindowCenter": "2000", "WindowWidth": "-3000"}, id="negative width"),
            pytest.param({"WindowCenter": "2000"}, id="no width"),
            pytest.param({"WindowWidth": "3000"}, id="no centre"),
            pytest.param({"WindowCenter": "", "WindowWidth": ""}, id="empty"),
            pytest.param({"WindowCenter": "2000", "WindowWidth": ""}, id="empty width"),
            pytest.param({"VOILUTSequence": []}, id="empty table"),
            pytest.param(
                {"VOILUTSequence": [], "WindowCenter": "0", "WindowWidth": "0"}, id="empty table and width 0"
            ),
            pytest.param(
                {"WindowCenter": "0", "WindowWidth": "0", "VOILUTFunction": "SIGMOID"}, id="sigmoid of width 0"
            ),
        ],
    )
    def test_without_a_usable_one_the_range_is_shown(self, elements: dict[str, Any]) -> None:
        assert np.abs(_dicom(self.stored, **elements) - _stretched(IMAGE)).max() <= 1

    @pytest.mark.parametrize(
        "elements",
        [
            pytest.param({}, id="no function"),
            pytest.param({"VOILUTFunction": ""}, id="empty function"),
            pytest.param({"VOILUTFunction": "LINEAR"}, id="linear"),
        ],
    )
    @pytest.mark.parametrize(
        ("centre", "width"),
        [
            pytest.param("2000", "1500", id="one"),
            pytest.param(["2000", "3000", "50"], ["1500", "100", "100"], id="first of three"),
            pytest.param(["2000", "3000"], "1500", id="two centres and one width"),
        ],
    )
    def test_the_first_is_linear(self, elements: dict[str, str], centre: Any, width: Any) -> None:
        pixels = _dicom(self.stored, WindowCenter=centre, WindowWidth=width, **elements)
        assert np.abs(pixels - _stretched(_window(IMAGE, 2000, 1500))).max() <= 1

    def test_exact_and_sigmoid_functions(self) -> None:
        window = {"WindowCenter": "2000", "WindowWidth": "1500"}
        exact = ((IMAGE - 2000) / 1500 + 0.5).clip(0, 1)
        assert np.abs(_dicom(self.stored, VOILUTFunction="LINEAR_EXACT", **window) - _stretched(exact)).max() <= 1
        sigmoid = 1 / (1 + np.exp(-4 * (IMAGE - 2000) / 1500))
        assert np.abs(_dicom(self.stored, VOILUTFunction="SIGMOID", **window) - _stretched(sigmoid)).max() <= 1

    @pytest.mark.parametrize("bits", [10, 12, 16])
    @pytest.mark.parametrize("kind", ["MONOCHROME2", "MONOCHROME1"])
    @pytest.mark.parametrize(
        ("first", "entries"), [(0, 4096), (1000, 2000)], ids=["whole range", "part of the range"]
    )
    def test_a_table_is_looked_up(self, bits: int, kind: str, first: int, entries: int) -> None:
        curve = np.round((np.arange(entries) / (entries - 1)) ** 2 * (2**bits - 1))
        table = Dataset()
        table.LUTDescriptor = [entries, first, bits]
        table.LUTData = curve.astype(np.uint16).tobytes()
        table["LUTData"].VR = "OW"
        pixels = _dicom(self.stored, PhotometricInterpretation=kind, VOILUTSequence=[table])
        expected = _stretched(curve[(IMAGE - first).clip(0, entries - 1)].astype(float))
        assert np.abs(pixels - (255 - expected if kind == "MONOCHROME1" else expected)).max() <= 1

    def test_a_table_applies_to_what_the_slope_gives(self) -> None:
        table = Dataset()
        table.LUTDescriptor = [4096, 0, 16]
        table.LUTData = np.arange(4096, dtype=np.uint16).tobytes()
        table["LUTData"].VR = "OW"
        pixels = _dicom(
            (4095 - IMAGE).astype(np.uint16), RescaleSlope="-1", RescaleIntercept="4095", VOILUTSequence=[table]
        )
        assert np.abs(pixels - _stretched(IMAGE)).max() <= 1


class TestWithoutPreamble:
    @pytest.mark.parametrize("implicit", [True, False], ids=["implicit", "explicit"])
    def test_a_bare_data_set_is_read(self, implicit: bool) -> None:
        buffer = io.BytesIO()
        bare = _image(IMAGE.astype(np.uint16))
        pydicom.dcmwrite(buffer, bare, implicit_vr=implicit, little_endian=True, enforce_file_format=False)
        assert buffer.getvalue()[128:132] != b"DICM"
        assert np.abs(_read(buffer.getvalue(), "image") - _stretched(IMAGE)).max() <= 1

    def test_a_meta_header_alone_is_read(self) -> None:
        whole = _file(_image(IMAGE.astype(np.uint16)))
        for cut in (128, 132):  # the preamble, or the four letters after it, too
            assert np.abs(_read(whole[cut:], "image") - _stretched(IMAGE)).max() <= 1

    @pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
    def test_truncated_is_refused(self, share: float, refused: Any) -> None:
        data = _file(_image(IMAGE.astype(np.uint16)))[132:]
        with refused("image.dcm"):
            _read(data[: int(len(data) * share)], "image.dcm")


def _lossless_jpeg(pixels: NDArray[Any], bits: int = 12) -> bytes:
    """ITU-T T.81, process 14, selection value 1: each step from the left, its length in five bits before it."""
    height, width = pixels.shape
    before = np.empty_like(pixels)
    before[:, 1:], before[1:, 0], before[0, 0] = pixels[:, :-1], pixels[:-1, 0], 2 ** (bits - 1)
    coded = ""
    for step in (pixels - before).ravel().tolist():
        length = abs(step).bit_length()
        coded += f"{length:05b}" + (f"{step if step > 0 else step + 2**length - 1:0{length}b}" if length else "")
    coded += "1" * (-len(coded) % 8)
    body = bytes(int(coded[place : place + 8], 2) for place in range(0, len(coded), 8)).replace(b"\xff", b"\xff\0")
    frame = struct.pack(">2sHBHHBBBB", b"\xff\xc3", 11, bits, height, width, 1, 1, 0x11, 0)
    table = struct.pack(">2sHB", b"\xff\xc4", 36, 0) + bytes([0, 0, 0, 0, 17, *[0] * 11, *range(17)])
    scan = struct.pack(">2sHBBBBBB", b"\xff\xda", 8, 1, 1, 0, 1, 0, 0)
    return b"\xff\xd8" + frame + table + scan + body + b"\xff\xd9"


def _compressed(syntax: str) -> tuple[bytes, NDArray[Any]]:
    """A DICOM file of a transfer syntax, and the values that it holds."""
    eight = GREY[:32, :32]
    streams: dict[str, Callable[[], tuple[bytes, NDArray[Any]]]] = {
        JPEGLosslessSV1: lambda: (_lossless_jpeg(IMAGE), IMAGE.astype(np.uint16)),
        JPEGLSLossless: lambda: (STEPS_LS, STEPS),
        JPEG2000Lossless: lambda: (_encoded(STEPS, "JPEG2000", no_jp2=True, irreversible=False), STEPS),
        JPEG2000: lambda: (_encoded(eight, "JPEG2000", no_jp2=True, irreversible=True), eight),
        JPEGBaseline8Bit: lambda: (_encoded(eight, "JPEG", quality=95), eight),
    }
    if syntax == RLELossless:
        plain = _image(STEPS)
        plain.file_meta = FileMetaDataset()
        plain.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        plain.compress(RLELossless)
        return _file(plain, RLELossless), STEPS
    stream, values = streams[syntax]()
    dataset = _image(values)
    if syntax in (JPEGLosslessSV1, JPEGLSLossless):
        dataset.BitsStored, dataset.HighBit = 12, 11
    return _file(dataset, syntax, stream), values


class TestCompressed:
    syntaxes = pytest.mark.parametrize(
        "syntax",
        [
            pytest.param(JPEGLosslessSV1, id="JPEG Lossless SV1"),
            pytest.param(JPEGLSLossless, id="JPEG-LS"),
            pytest.param(JPEG2000Lossless, id="JPEG 2000 without loss"),
            pytest.param(JPEG2000, id="JPEG 2000"),
            pytest.param(JPEGBaseline8Bit, id="JPEG baseline"),
            pytest.param(RLELossless, id="run lengths"),
        ],
    )

    @syntaxes
    def test_the_image_is_the_same(self, syntax: str) -> None:
        data, values = _compressed(syntax)
        loss = 5 if syntax in (JPEG2000, JPEGBaseline8Bit) else 0.5
        assert np.abs(_read(data, "image.dcm") - _stretched(values.astype(float))).max() <= loss

    @syntaxes
    @pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
    def test_truncated_is_refused_in_one_line(self, syntax: str, share: float, refused: Any) -> None:
        data, _ = _compressed(syntax)
        with refused("image.dcm"):
            _read(data[: int(len(data) * share)], "image.dcm")

    @pytest.mark.parametrize("syntax", [JPEGLosslessSV1, JPEGLSLossless], ids=["JPEG Lossless SV1", "JPEG-LS"])
    def test_a_stream_of_zeros_is_refused_in_one_line(self, syntax: str, refused: Any) -> None:
        dataset = _image(STEPS)
        with refused("image.dcm"):
            _read(_file(dataset, syntax, STEPS_LS[:4] + b"\0" * 60), "image.dcm")

    def test_without_a_decoder_the_way_out_is_said(self, refused: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(JPEGLosslessSV1Decoder, "_available", {})
        with refused("image.dcm", "JPEG Lossless", "pip install"):
            _read(_compressed(JPEGLosslessSV1)[0], "image.dcm")


SHOWN: dict[int, Callable[[NDArray[Any]], NDArray[Any]]] = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.T,
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: stored[::-1, ::-1].T,
    8: lambda stored: np.rot90(stored),
}
"""What a viewer shows of the stored picture, by EXIF orientation (CIPA DC-008, 4.6.4)."""


def _exif(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


class TestOrientation:
    noise = np.random.default_rng(0).integers(0, 256, (5, 6), dtype=np.uint8).repeat(8, 0).repeat(8, 1)

    @pytest.mark.parametrize("orientation", SHOWN)
    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
    @pytest.mark.parametrize("mode", ["L", "RGB"])
    def test_a_image_is_read_as_a_viewer_shows_it(self, orientation: int, kind: str, mode: str) -> None:
        options = {"lossless": True} if kind == "WEBP" else {}
        picture = Image.fromarray(self.noise).convert(mode)
        plain = _read(_encoded(picture, kind, **options))
        pixels = _read(_encoded(picture, kind, exif=_exif(orientation), **options))
        assert np.array_equal(pixels, SHOWN[orientation](plain))

    @pytest.mark.parametrize("kind", ["PNG", "TIFF"])
    def test_a_image_of_16_bits_is_turned_too(self, kind: str) -> None:
        deep = self.noise.astype(np.uint16) * 100
        pixels = _read(_encoded(deep, kind, exif=_exif(6)))
        assert np.abs(pixels - _stretched(np.rot90(deep, -1).astype(float))).max() <= 1

    @pytest.mark.parametrize("orientation", SHOWN)
    def test_a_mask_drawn_on_what_the_viewer_shows_fits(self, orientation: int) -> None:
        image = read_grey(Path("image.jpg"), _encoded(self.noise, "JPEG", exif=_exif(orientation)))
        drawn = SHOWN[orientation](self.noise > 127)
        mask = read_mask(Path("mask.png"), (image.shape[0], image.shape[1]), _encoded(drawn.copy()))
        assert np.array_equal(mask, drawn)

    def test_a_mask_with_an_orientation_of_its_own_is_turned(self) -> None:
        drawn = self.noise > 127
        mask = read_mask(Path("mask.png"), (48, 40), _encoded(drawn * np.uint8(255), exif=_exif(6)))
        assert np.array_equal(mask, np.rot90(drawn, -1))

    @pytest.mark.parametrize("exif", [_exif(0), _exif(9), b"Exif\0\0no more"], ids=["0", "9", "broken block"])
    def test_an_orientation_that_means_nothing_is_ignored(self, exif: bytes) -> None:
        assert np.array_equal(_read(_encoded(self.noise, "JPEG", exif=exif)), _read(_encoded(self.noise, "JPEG")))

    def test_a_damaged_block_does_not_hide_the_image(self) -> None:
        data = _encoded(self.noise)
        damaged = data[:33] + _chunk(b"eXIf", b"no TIFF header") + data[33:]
        assert np.array_equal(_read(damaged), _read(data))

    def test_an_opened_picture_is_turned_as_its_file_is(self) -> None:
        data = _encoded(self.noise, "JPEG", exif=_exif(6))
        assert np.array_equal(picture_to_grey(Image.open(io.BytesIO(data))), _read(data))


def _tiff(pixels: NDArray[Any], photometric: int, order: str = "<") -> bytes:
    """An uncompressed grey TIFF of one strip; photometric is 0 for WhiteIsZero, 1 for BlackIsZero."""
    body = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    height, width = pixels.shape
    tags = {
        256: width,
        257: height,
        258: pixels.dtype.itemsize * 8,
        259: 1,
        262: photometric,
        273: 8,
        277: 1,
        278: height,
        279: len(body),
    }
    entries = b"".join(struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in tags.items())
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8 + len(body))
    return head + body + struct.pack(f"{order}H", len(tags)) + entries + bytes(4)


class TestWhiteIsZero:
    @pytest.mark.parametrize("order", ["<", ">"], ids=["little endian", "big endian"])
    @pytest.mark.parametrize(
        "image",
        [
            pytest.param(GREY, id="8 bits"),
            pytest.param(IMAGE.astype(np.uint16), id="12 of 16 bits"),
            pytest.param((IMAGE * 17).astype(np.uint16), id="16 bits"),
        ],
    )
    def test_equals_its_twin(self, image: NDArray[Any], order: str) -> None:
        twin = _read(_tiff(image, 1, order), "image.tif")
        pixels = _read(_tiff(np.iinfo(image.dtype).max - image, 0, order), "image.tif")
        assert np.abs(pixels - twin).max() <= 1
        assert np.abs(twin - (GREY if image is GREY else _stretched(image))).max() <= 1

    def test_an_opened_picture_equals_its_file(self) -> None:
        data = _tiff((65535 - IMAGE).astype(np.uint16), 0)
        assert np.array_equal(picture_to_grey(Image.open(io.BytesIO(data))), _read(data))

    def test_a_mask_is_white_where_it_is_shown_white(self) -> None:
        drawn = IMAGE > 2000
        data = _tiff(np.where(drawn, 0, 65535).astype(np.uint16), 0)
        assert np.array_equal(read_mask(Path("mask.tif"), None, data), drawn)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _with_chunks(chunks: bytes, *, at_end: bool) -> bytes:
    """GREY as PNG with more chunks, after its header or before its end."""
    whole = _encoded(GREY)
    place = len(whole) - 12 if at_end else 33
    return whole[:place] + chunks + whole[place:]


LONG = b"findings: none. " * 100_000  # 1.6 MB


class TestLongChunks:
    @pytest.mark.parametrize("at_end", [False, True], ids=["before the pixels", "after the pixels"])
    @pytest.mark.parametrize(
        "chunks",
        [
            pytest.param(_chunk(b"tEXt", b"report\0" + LONG), id="text"),
            pytest.param(_chunk(b"zTXt", b"report\0\0" + zlib.compress(LONG)), id="packed text"),
            pytest.param(_chunk(b"iTXt", b"report\0\0\0\0\0" + LONG), id="international text"),
            pytest.param(
                _chunk(b"iTXt", b"report\0\1\0\0\0" + zlib.compress(LONG)), id="packed international text"
            ),
            pytest.param(_chunk(b"tEXt", b"report\0" + b"x" * 900_000) * 80, id="many texts"),
        ],
    )
    def test_a_report_does_not_hide_the_image(self, chunks: bytes, at_end: bool) -> None:
        assert np.array_equal(_read(_with_chunks(chunks, at_end=at_end)), GREY)

    def test_a_colour_profile_does_not_hide_the_image(self) -> None:
        chunk = _chunk(b"iCCP", b"scanner\0\0" + zlib.compress(LONG))
        assert np.array_equal(_read(_with_chunks(chunk, at_end=False)), GREY)

    def test_a_mask_may_have_one_too(self) -> None:
        chunk = _chunk(b"zTXt", b"tool\0\0" + zlib.compress(LONG))
        drawn = (GREY > 100) * np.uint8(255)
        whole = _encoded(drawn)
        assert np.array_equal(read_mask(Path("mask.png"), None, whole[:33] + chunk + whole[33:]), drawn > 0)

    def test_a_damaged_image_with_one_is_still_refused(self, refused: Any) -> None:
        data = _with_chunks(_chunk(b"tEXt", b"report\0" + LONG), at_end=False)
        with refused("image.png"):
            _read(data[:-40])

    def test_limits_of_other_users_of_pillow_stay(self) -> None:
        before = PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY
        _read(_with_chunks(_chunk(b"tEXt", b"report\0" + LONG), at_end=False))
        assert before == (PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY)


def _bits(width: int, height: int) -> bytes:
    """A one-bit PNG, black above and white below its middle, written row by row."""
    packer = zlib.compressobj(1)
    dark, bright = bytes(1 + (width + 7) // 8), b"\0" + b"\xff" * ((width + 7) // 8)
    body = b"".join([packer.compress(dark if row < height // 2 else bright) for row in range(height)])
    return _png(width, height, 1, body + packer.flush())


def _png(width: int, height: int, depth: int, body: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", body) + _chunk(b"IEND", b"")


class TestSizes:
    @pytest.mark.filterwarnings("error")
    def test_a_scan_of_182_megapixels_is_read(self) -> None:
        image = read_grey(Path("image.png"), _bits(13_500, 13_500))
        assert image.shape == (13_500, 13_500)
        assert (image[6749, ::500] == 0).all()
        assert (image[6750, ::500] == 255).all()

    @pytest.mark.parametrize("side", [40_000, 2_000_000])
    @pytest.mark.parametrize("kind", ["png", "tif"])
    def test_a_header_beyond_all_images_is_refused_at_once(self, side: int, kind: str, refused: Any) -> None:
        data = _png(side, side, 8, zlib.compress(bytes(1000)))
        if kind == "tif":
            data = _tiff(GREY, 1).replace(
                struct.pack("<HHII", 256, 4, 1, 48), struct.pack("<HHII", 256, 4, 1, side)
            )
            data = data.replace(struct.pack("<HHII", 257, 4, 1, 40), struct.pack("<HHII", 257, 4, 1, side))
        started = time.perf_counter()
        with refused(f"image.{kind}", "pixels"):
            _read(data, f"image.{kind}")
        assert time.perf_counter() - started < 2

    def test_dicom_and_other_tiff_are_refused_as_well(self, refused: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        dicom, tiff = _file(_image(GREY)), _tiff(GREY.astype(np.uint32), 0)
        with pytest.raises(UnidentifiedImageError):
            Image.open(io.BytesIO(tiff))
        monkeypatch.setattr("manet_lib.data.images.LARGEST", GREY.size)
        _read(dicom)
        monkeypatch.setattr("manet_lib.data.images.LARGEST", GREY.size - 1)
        for data in (dicom, tiff):
            with refused("48×40 pixels; expected at most 1,919"):
                _read(data)


LUNGS = ((Y > 6) & (Y < 33)) & (((X > 5) & (X < 20)) | ((X > 27) & (X < 43)))
LEFT = LUNGS & (X > 24)
RIGHT = LUNGS & ~LEFT


def _palette(values: NDArray[np.uint8], *colours: tuple[int, int, int]) -> Image.Image:
    picture = Image.fromarray(values, "L").convert("P")
    picture.putpalette([level for colour in colours for level in colour])
    return picture


def _coloured(background: tuple[int, ...], right: tuple[int, ...], left: tuple[int, ...]) -> NDArray[np.uint8]:
    pixels = np.empty((*LUNGS.shape, len(background)), np.uint8)
    pixels[:], pixels[RIGHT], pixels[LEFT] = background, right, left
    return pixels


def _levels(background: int, right: int, left: int, dtype: Any = np.uint8) -> NDArray[Any]:
    return np.where(LEFT, left, np.where(RIGHT, right, background)).astype(dtype)


def _mask(data: bytes, name: str = "mask.png") -> NDArray[np.bool_]:
    mask = read_mask(Path(name), (40, 48), data)
    assert mask.dtype == np.bool_
    return mask


class TestMaskAboveBackground:
    @pytest.mark.parametrize(
        "drawn",
        [
            pytest.param(_levels(0, 1, 2), id="labels 0 1 2"),
            pytest.param(_levels(0, 1, 1), id="labels 0 1"),
            pytest.param(_levels(0, 2, 2), id="labels 0 2"),
            pytest.param(_levels(0, 3, 4), id="labels 0 3 4"),
            pytest.param(_levels(0, 50, 100), id="labels 0 50 100"),
            pytest.param(_levels(0, 127, 255), id="labels 0 127 255"),
            pytest.param(_levels(0, 85, 85), id="0 and 85"),
            pytest.param(_levels(0, 255, 255), id="0 and 255"),
            pytest.param(_levels(20, 90, 90), id="20 and 90"),
            pytest.param(_levels(100, 101, 101), id="100 and 101"),
            pytest.param(_levels(0, 1, 2, np.uint16), id="labels of 16 bits"),
            pytest.param(_levels(0, 1, 1, np.uint16), id="0 and 1 in 16 bits"),
            pytest.param(_levels(0, 9000, 65535, np.uint16), id="0 9000 65535 in 16 bits"),
            pytest.param(_levels(0, 65535, 65535, np.uint16), id="0 and 65535 in 16 bits"),
            pytest.param(_levels(0, 1, 2, np.int32), id="labels of 32 bits"),
            pytest.param(LUNGS, id="bool"),
            pytest.param(Image.fromarray(LUNGS * np.uint8(255)).convert("1"), id="one bit"),
            pytest.param(_palette(_levels(0, 1, 1), (0, 0, 0), (60, 0, 0)), id="palette with dark red"),
            pytest.param(
                _palette(_levels(0, 1, 2), (0, 0, 0), (60, 0, 0), (0, 0, 60)), id="palette, red and blue"
            ),
            pytest.param(_palette(_levels(0, 1, 2), (0, 0, 0), (128, 0, 0), (0, 128, 0)), id="palette of VOC"),
            pytest.param(_palette(_levels(0, 1, 2), (0, 0, 0), (1, 1, 1), (2, 2, 2)), id="palette of labels"),
            pytest.param(_coloured((0, 0, 0), (200, 0, 0), (0, 0, 255)), id="red and blue"),
            pytest.param(_coloured((0, 0, 0), (0, 0, 90), (0, 0, 90)), id="dark blue"),
            pytest.param(_coloured((1, 1, 1), (2, 2, 2), (3, 3, 3)), id="labels 1 2 3 in RGB"),
            pytest.param(
                _coloured((0, 0, 0, 0), (255, 255, 255, 255), (255, 255, 255, 255)), id="clear and white"
            ),
            pytest.param(
                _coloured((255, 255, 255, 0), (200, 0, 0, 255), (0, 0, 200, 255)), id="clear white and colours"
            ),
            pytest.param(_coloured((0, 0, 0, 255), (255, 0, 0, 255), (255, 0, 0, 255)), id="opaque throughout"),
            pytest.param(_coloured((0, 0, 0, 0), (0, 255, 0, 80), (0, 255, 0, 80)), id="a layer half clear"),
        ],
    )
    def test_every_level_above_the_lowest_is_lung(self, drawn: Any) -> None:
        kind = "TIFF" if isinstance(drawn, np.ndarray) and drawn.dtype == np.int32 else "PNG"
        assert np.array_equal(_mask(_encoded(drawn, kind)), LUNGS)

    def test_eight_levels_are_labels(self) -> None:
        drawn = np.where(LUNGS, 1 + (Y + X) % 7, 0).astype(np.uint8)
        assert np.array_equal(_mask(_encoded(drawn)), LUNGS)

    def test_a_soft_edge_is_cut_in_the_middle(self) -> None:
        large = Image.fromarray(np.kron(LUNGS, np.ones((7, 7))).astype(np.uint8) * 255)
        soft = np.asarray(
            large.resize((45, 37), Image.Resampling.BILINEAR).resize((48, 40), Image.Resampling.BILINEAR)
        )
        assert len(np.unique(soft)) > 8
        assert np.array_equal(_mask(_encoded(soft)), soft > 127.5)

    def test_a_soft_edge_of_16_bits_is_cut_in_the_middle(self) -> None:
        soft = (np.clip(4 - np.hypot(Y - 20, X - 24) / 4, 0, 1) * 65535).astype(np.uint16)
        assert len(np.unique(soft)) > 8
        assert np.array_equal(_mask(_encoded(soft)), soft > 65535 / 2)

    @pytest.mark.parametrize("quality", [30, 75, 90, 95, 100])
    @pytest.mark.parametrize("shape", ["lungs", "disc"])
    def test_noise_of_jpeg_is_no_lung(self, quality: int, shape: str) -> None:
        drawn = LUNGS if shape == "lungs" else np.hypot(Y - 20, X - 24) < 13
        data = _encoded(drawn * np.uint8(255), "JPEG", quality=quality)
        assert len(np.unique(np.asarray(Image.open(io.BytesIO(data))))) > 2, "there is noise"
        assert np.array_equal(_mask(data, "mask.jpg"), drawn)

    def test_noise_near_black_is_no_lung(self) -> None:
        noise = np.random.default_rng(0).integers(0, 12, LUNGS.shape)
        drawn = np.where(LUNGS, 255 - noise, noise).astype(np.uint8)
        assert np.array_equal(_mask(_encoded(drawn)), LUNGS)


class TestMasksNamedBeforeTraining:
    @pytest.fixture
    def build(self, own_images: Callable[..., Path], own_params: Callable[..., Params], paths: RunPaths) -> Any:
        """Builds the store of eight images with six masks, some of them drawn otherwise."""

        def make(**drawn: NDArray[Any]) -> Store:
            folder = own_images(each=4, masked=3)
            for name, pixels in drawn.items():
                Image.fromarray(pixels).save(folder / f"mask_{name}.png")
            build_store(own_params(folder), paths)
            return Store.open(paths.store)

        return make

    @pytest.mark.parametrize(
        "drawn",
        [
            pytest.param(np.zeros((40, 48), np.uint8), id="black"),
            pytest.param(np.full((40, 48), 255, np.uint8), id="white"),
            pytest.param(np.ones((40, 48), np.uint8), id="labels 1 alone"),
            pytest.param(np.zeros((40, 48), bool), id="one bit"),
            pytest.param(np.where((Y < 39) & (X < 46), 255, 0).astype(np.uint8), id="93 percent"),
            pytest.param((Y > 1).astype(np.uint8), id="labels on 95 percent"),
        ],
    )
    def test_an_empty_or_overfull_one(self, drawn: NDArray[Any], build: Any, refused: Any) -> None:
        with refused("mask_sick1.png"):
            build(sick1=drawn)

    def test_all_of_them_in_one_message(self, build: Any, refused: Any) -> None:
        empty, full = np.zeros((40, 48), np.uint8), np.where(Y < 39, 255, 0).astype(np.uint8)
        with refused("mask_healthy0.png", "mask_healthy2.png", "mask_sick0.png", "empty") as caught:
            build(healthy0=empty, healthy2=full, sick0=empty)
        for name in ("mask_healthy1.png", "mask_sick1.png", "mask_sick2.png"):
            assert name not in str(caught.value)

    def test_together_with_files_that_cannot_be_read(
        self, own_images: Any, own_params: Any, paths: RunPaths, refused: Any
    ) -> None:
        folder = own_images()
        Image.new("L", (48, 40)).save(folder / "mask_sick0.png")
        (folder / "healthy3.png").write_bytes(b"")
        with refused("mask_sick0.png", "healthy3.png", "0 bytes"):
            build_store(own_params(folder), paths)

    @pytest.mark.parametrize("share", [0.01, 0.5, 0.88])
    def test_others_are_taken(self, share: float, build: Any) -> None:
        drawn = np.zeros(40 * 48, np.uint8)
        drawn[: int(share * drawn.size)] = 255
        store = build(sick1=drawn.reshape(40, 48))
        row = store.index.index[store.index["mask_path"] == "mask_sick1.png"][0]
        assert abs(float(store.masks[row].mean()) - share) < 0.03

    def test_a_image_without_a_mask_is_no_empty_mask(self, build: Any) -> None:
        store = build()
        assert (store.index["mask_path"] == "").sum() == 2


def test_cmyk_of_16_bits_is_refused_and_of_8_is_read(refused: Any) -> None:
    ink = np.zeros((40, 48, 4), np.uint8)
    ink[..., 3] = 255 - GREY
    deep, usual = io.BytesIO(), io.BytesIO()
    tifffile.imwrite(deep, ink.astype(np.uint16) * 257, photometric="separated")
    tifffile.imwrite(usual, ink, photometric="separated")
    with refused("CMYK", "save it as grey or RGB"):
        _read(deep.getvalue(), "image.tif")
    assert np.abs(_read(usual.getvalue()) - GREY).max() <= 2
