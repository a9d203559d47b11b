from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from manet_lib.data.images import SMALLEST, read_grey, read_mask
from manet_lib.data.scaling import resize, segment, to_signed, to_unit

GREY = np.add.outer(np.arange(30) * 4, np.arange(40) * 3).astype(np.uint8)  # 0 to 233, smooth


def _encoded(picture: Image.Image, ending: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, ending, **options)
    return buffer.getvalue()


def _dicom(values: NDArray[Any], interpretation: str = "MONOCHROME2", **elements: Any) -> bytes:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = pydicom.uid.DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.Rows, dataset.Columns = values.shape[:2]
    dataset.SamplesPerPixel = values.shape[2] if values.ndim == 3 else 1
    dataset.PhotometricInterpretation = interpretation
    dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = dataset.BitsStored = values.dtype.itemsize * 8
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = 0
    dataset.PixelData = values.tobytes()
    for name, value in elements.items():
        setattr(dataset, name, value)
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset)
    return buffer.getvalue()


def _read(data: bytes, name: str = "image.png") -> NDArray[np.uint8]:
    pixels = read_grey(Path(name), data)
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 2
    return pixels


def _stretched(values: NDArray[Any]) -> NDArray[np.float64]:
    """To 0..255, each value rounded by the caller's tolerance."""
    return (values - values.min()) / (values.max() - values.min()) * 255.0


class TestModes:
    def test_grey(self) -> None:
        assert np.array_equal(_read(_encoded(Image.fromarray(GREY))), GREY)

    def test_one_bit(self) -> None:
        bits = GREY > 100
        assert np.array_equal(_read(_encoded(Image.fromarray(bits))), bits * np.uint8(255))

    def test_palette(self) -> None:
        picture = Image.fromarray(GREY, "L").convert("P")
        picture.putpalette([255 - number for number in range(256) for _ in range(3)])
        assert np.array_equal(_read(_encoded(picture)), 255 - GREY)

    def test_colour(self) -> None:
        colours = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
        expected = colours @ np.array([0.299, 0.587, 0.114])  # ITU-R 601-2
        assert np.abs(_read(_encoded(Image.fromarray(colours))) - expected).max() <= 1

    def test_grey_as_colour(self) -> None:
        data = _encoded(Image.fromarray(np.dstack([GREY] * 3)))
        assert np.array_equal(_read(data), GREY)

    @pytest.mark.parametrize("mode", ["RGBA", "LA"])
    def test_transparent_is_black(self, mode: str) -> None:
        picture = Image.fromarray(np.full((30, 40), 255, np.uint8)).convert(mode)
        alpha = np.zeros((30, 40), np.uint8)
        alpha[:, 20:] = 255
        alpha[:, 39] = 51  # a fifth
        picture.putalpha(Image.fromarray(alpha))
        pixels = _read(_encoded(picture))
        assert np.array_equal(pixels, alpha)

    def test_transparent_palette_entry_is_black(self) -> None:
        picture = Image.fromarray(np.where(GREY > 100, 1, 0).astype(np.uint8), "L").convert("P")
        picture.putpalette([255, 255, 255, 90, 90, 90])
        pixels = _read(_encoded(picture, transparency=0))
        assert np.array_equal(pixels, np.where(GREY > 100, 90, 0))

    @pytest.mark.parametrize("mode", ["L", "RGB"])
    def test_transparent_colour_is_black(self, mode: str) -> None:
        white = np.where(GREY > 100, 255, GREY).astype(np.uint8)
        picture = Image.fromarray(white).convert(mode)
        pixels = _read(_encoded(picture, transparency=255 if mode == "L" else (255, 255, 255)))
        assert np.array_equal(pixels, np.where(GREY > 100, 0, GREY))

    def test_sixteen_bits(self) -> None:
        deep = (GREY.astype(np.uint16) * 17 + 1000).astype(np.uint16)
        assert np.abs(_read(_encoded(Image.fromarray(deep))) - _stretched(deep)).max() <= 0.5

    def test_sixteen_bits_over_the_whole_range(self) -> None:
        deep = np.linspace(0, 65535, 30 * 40).reshape(30, 40).astype(np.uint16)
        pixels = _read(_encoded(Image.fromarray(deep)))
        assert (pixels[0, 0], pixels[-1, -1]) == (0, 255)
        assert (np.diff(pixels.ravel().astype(int)) >= 0).all()

    def test_constant_sixteen_bits(self) -> None:
        assert _read(_encoded(Image.fromarray(np.full((30, 40), 5000, np.uint16)))).max() == 0

    @pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
    def test_floating_point(self, scale: float) -> None:
        values = ((GREY - 100.0) * scale).astype(np.float32)
        pixels = _read(_encoded(Image.fromarray(values), "TIFF"))
        assert np.abs(pixels - _stretched(values.astype(float))).max() <= 0.51

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_not_a_number_is_refused(self, value: float, refused: Any) -> None:
        values = GREY.astype(np.float32)
        values[3, 4] = value
        with refused("image.tif"):
            _read(_encoded(Image.fromarray(values), "TIFF"), "image.tif")

    @pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
    def test_jpeg(self, mode: str) -> None:
        pixels = _read(_encoded(Image.fromarray(GREY).convert(mode), "JPEG", quality=95))
        assert np.abs(pixels.astype(int) - GREY).max() <= 4

    @pytest.mark.parametrize("ending", ["BMP", "TIFF", "GIF", "WEBP"])
    def test_other_formats(self, ending: str) -> None:
        options = {"lossless": True} if ending == "WEBP" else {}
        assert np.abs(_read(_encoded(Image.fromarray(GREY), ending, **options)).astype(int) - GREY).max() <= 1

    @pytest.mark.parametrize("name", ["image.jpg", "image.dcm", "image.csv", "image"])
    def test_the_name_does_not_matter(self, name: str, tmp_path: Path) -> None:
        (tmp_path / name).write_bytes(_encoded(Image.fromarray(GREY)))
        assert np.array_equal(read_grey(tmp_path / name), GREY)


class TestDicom:
    deep = GREY.astype(np.uint16) * 13 + 40

    def test_bright_is_dense(self) -> None:
        assert np.abs(_read(_dicom(self.deep)) - _stretched(self.deep)).max() <= 0.5

    def test_monochrome1_is_the_negative(self) -> None:
        negative = self.deep.max() + self.deep.min() - self.deep
        positive = _read(_dicom(self.deep)).astype(int)
        assert np.abs(_read(_dicom(negative, "MONOCHROME1")) - positive).max() <= 1

    def test_window_is_applied(self) -> None:
        # Centre and width as PS3.3 C.11.2.1.2: what lies outside the window is clipped.
        pixels = _read(_dicom(self.deep, WindowCenter=1000.0, WindowWidth=400.0))
        assert (pixels[self.deep <= 799] == 0).all()
        assert (pixels[self.deep >= 1201] == 255).all()
        inside = (self.deep > 805) & (self.deep < 1195)
        assert np.abs(pixels[inside] - (self.deep[inside] - 800.0) / 400 * 255).max() < 2

    def test_eight_bits(self) -> None:
        assert np.abs(_read(_dicom(GREY)) - _stretched(GREY)).max() <= 0.5

    def test_colour_is_read_as_that_of_a_picture(self) -> None:
        colours = np.dstack([GREY, GREY[::-1], 255 - GREY])
        assert np.array_equal(_read(_dicom(colours, "RGB")), _read(_encoded(Image.fromarray(colours))))

    def test_several_frames_are_refused(self, refused: Any) -> None:
        dataset = pydicom.dcmread(io.BytesIO(_dicom(GREY)))
        dataset.NumberOfFrames, dataset.PixelData = 2, 2 * dataset.PixelData
        data = io.BytesIO()
        dataset.save_as(data)
        with refused("image.dcm", "holds 2 frames"):
            read_grey(Path("image.dcm"), data.getvalue())

    @pytest.mark.parametrize("share", [0.05, 0.15, 0.5, 0.95])
    def test_truncated_is_refused(self, share: float, refused: Any) -> None:
        data = _dicom(self.deep)
        with refused("image.dcm"):
            _read(data[: max(140, int(len(data) * share))], "image.dcm")


class TestBadFiles:
    @pytest.mark.parametrize("ending", ["PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP"])
    @pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9])
    def test_truncated(self, ending: str, share: float, refused: Any) -> None:
        noise = np.random.default_rng(0).integers(0, 256, (60, 80), dtype=np.uint8)
        data = _encoded(Image.fromarray(noise), ending)
        with refused("image.png"):
            _read(data[: int(len(data) * share)])

    @pytest.mark.parametrize(
        ("data", "part"),
        [
            (b"", "0 bytes"),
            (b"path,label\na.png,normal\n", "not an image"),
            (b"\n\n<html>\n", "not an image"),
            (b"\0" * 200, "not an image"),
            (b"\0" * 128 + b"DICM", "DICOM"),
            (b"\0" * 128 + b"DICM" + b"\xff" * 300, "DICOM"),
        ],
    )
    def test_no_image(self, data: bytes, part: str, refused: Any) -> None:
        with refused("image.png", part):
            _read(data)

    @pytest.mark.parametrize("shape", [(1, 1), (SMALLEST - 1, 100), (100, SMALLEST - 1)])
    def test_too_small(self, shape: tuple[int, int], refused: Any) -> None:
        with refused("image.png", f"{shape[1]}×{shape[0]}", str(SMALLEST)):
            _read(_encoded(Image.fromarray(np.zeros(shape, np.uint8))))

    def test_smallest_is_taken(self) -> None:
        assert _read(_encoded(Image.new("L", (SMALLEST, SMALLEST)))).shape == (SMALLEST, SMALLEST)

    def test_missing(self, tmp_path: Path, refused: Any) -> None:
        with refused("absent.png", "no such file"):
            read_grey(tmp_path / "absent.png")
        with refused("absent.png", "no such file"):
            read_mask(tmp_path / "absent.png", (30, 40))

    def test_folder(self, tmp_path: Path, refused: Any) -> None:
        with refused(tmp_path.name):
            read_grey(tmp_path)

    @pytest.mark.filterwarnings("ignore")
    @pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "GIF", "BMP", "WEBP"])
    def test_flipped_bytes_never_crash(self, kind: str, refused: Any) -> None:
        whole = _encoded(Image.fromarray(GREY), kind)
        rng = np.random.default_rng(1)
        for _ in range(60):
            data = bytearray(whole)
            for place in rng.integers(0, min(len(data), 300), 4):
                data[place] = rng.integers(0, 256)
            try:
                _read(bytes(data))
            except ValueError:  # a UserError; anything else fails the test
                with refused("image.png"):
                    _read(bytes(data))

    @pytest.mark.filterwarnings("ignore")
    @pytest.mark.parametrize("dtype", [np.uint8, np.float32])
    def test_tiff_tag_of_another_type_never_crashes(self, dtype: type, refused: Any) -> None:
        whole = _encoded(Image.fromarray(GREY.astype(dtype)), "TIFF")
        start = struct.unpack("<I", whole[4:8])[0]
        for entry in range(struct.unpack("<H", whole[start : start + 2])[0]):
            for kind in (1, 2, 5, 7, 12):  # byte, text, rational, undefined, double
                data = bytearray(whole)
                struct.pack_into("<H", data, start + 2 + 12 * entry + 2, kind)
                try:
                    _read(bytes(data))
                except ValueError:
                    with refused("image.png"):
                        _read(bytes(data))


class TestMask:
    drawn = GREY > 100

    def _mask(self, values: NDArray[np.uint8], shape: tuple[int, int] = (30, 40)) -> NDArray[np.bool_]:
        return read_mask(Path("mask.png"), shape, _encoded(Image.fromarray(values)))

    @pytest.mark.parametrize("high", [1, 255, 200])
    def test_any_two_levels(self, high: int) -> None:
        mask = self._mask(self.drawn * np.uint8(high))
        assert mask.dtype == np.bool_
        assert np.array_equal(mask, self.drawn)

    def test_grey_edges_are_cut_in_the_middle(self) -> None:
        values = np.tile(np.array([0, 20, 60, 100, 127, 128, 160, 200, 230, 255], np.uint8), (30, 4))
        assert np.array_equal(self._mask(values), values > 127.5)

    def test_empty_mask(self) -> None:
        assert not self._mask(np.zeros((30, 40), np.uint8)).any()

    @pytest.mark.parametrize("factor", [2, 5])
    def test_larger_image(self, factor: int) -> None:
        mask = self._mask(self.drawn * np.uint8(255), (30 * factor, 40 * factor))
        assert np.array_equal(mask, np.kron(self.drawn, np.ones((factor, factor), bool)))

    def test_smaller_image(self) -> None:
        large = np.kron(self.drawn, np.ones((3, 3), bool))
        assert np.array_equal(self._mask(large * np.uint8(255)), self.drawn)

    def test_proportions_within_two_percent(self) -> None:
        assert self._mask(self.drawn * np.uint8(255), (295, 400)).shape == (295, 400)

    @pytest.mark.parametrize("shape", [(40, 30), (30, 42), (31, 40), (300, 420)])
    def test_other_proportions_are_refused(self, shape: tuple[int, int], refused: Any) -> None:
        with refused("mask.png", "40×30", f"{shape[1]}×{shape[0]}"):
            self._mask(self.drawn * np.uint8(255), shape)


class TestResize:
    def test_same_size_is_untouched(self) -> None:
        assert np.array_equal(resize(GREY, GREY.shape), GREY)

    @pytest.mark.parametrize("shape", [(15, 20), (7, 13), (64, 64), (30, 80)])
    def test_keeps_brightness(self, shape: tuple[int, int]) -> None:
        small = resize(GREY, shape)
        assert small.shape == shape
        assert abs(small.mean() - GREY.mean()) < 2
        assert (resize(np.full_like(GREY, 77), shape) == 77).all()

    def test_averages_over_area(self) -> None:
        checks = np.indices((64, 64)).sum(axis=0) % 2 * np.uint8(255)
        small = resize(checks.astype(np.uint8), (16, 16))
        assert np.abs(small.astype(int) - 128).max() <= 8  # picking pixels would give 0 or 255

    @pytest.mark.parametrize("shape", [(7, 13), (64, 64)])
    def test_mask_stays_binary(self, shape: tuple[int, int]) -> None:
        assert set(np.unique(resize((GREY > 100).astype(np.uint8), shape, smooth=False))) == {0, 1}


class TestScaling:
    values = torch.tensor([[20, 70], [120, 220]], dtype=torch.uint8)

    def test_min_max(self) -> None:
        unit = to_unit(self.values)
        assert unit.dtype == torch.float32
        np.testing.assert_allclose(unit, [[0, 0.25], [0.5, 1]], atol=1e-7)

    def test_divide(self) -> None:
        unit = to_unit(self.values, "divide")
        assert unit.dtype == torch.float32
        np.testing.assert_allclose(unit, self.values / 255, atol=1e-7)

    def test_signed(self) -> None:
        signed = to_signed(self.values)
        assert signed.dtype == torch.float32
        np.testing.assert_allclose(signed, [[-1, -0.5], [0, 1]], atol=1e-7)
        assert to_signed(torch.tensor([[0, 255]], dtype=torch.uint8), "divide").tolist() == [[-1, 1]]

    @pytest.mark.parametrize("level", [0, 1, 128, 255])
    def test_constant_image(self, level: int) -> None:
        image = torch.full((8, 8), level, dtype=torch.uint8)
        assert (to_unit(image) == 0).all()
        assert (to_signed(image) == -1).all()
        np.testing.assert_allclose(to_unit(image, "divide"), level / 255, atol=1e-7)

    @pytest.mark.parametrize("normalisation", ["min_max", "divide"])
    def test_order_and_range_are_kept(self, normalisation: str) -> None:
        image = torch.arange(256, dtype=torch.uint8).reshape(16, 16)
        signed = to_signed(image, normalisation).flatten()
        assert (signed.diff() > 0).all()
        assert (signed[0], signed[-1]) == (-1, 1)

    @pytest.mark.parametrize("normalisation", ["min_max", "divide"])
    @pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
    def test_each_image_of_a_batch_is_scaled_by_itself(
        self, normalisation: str, layout: torch.memory_format
    ) -> None:
        generator = torch.Generator().manual_seed(0)
        images = torch.randint(40, 200, (5, 1, 9, 7), generator=generator, dtype=torch.uint8)
        images[1] //= 3
        images[2] = 17
        before = images.clone()
        scaled = to_signed(images.to(memory_format=layout), normalisation)
        for image, together in zip(images.numpy().astype(np.float64), scaled, strict=True):
            low, high = (image.min(), image.max()) if normalisation == "min_max" else (0, 255)
            np.testing.assert_allclose(together, (image - low) / max(high - low, 1) * 2 - 1, atol=2e-7)
        assert torch.equal(images, before)

    def test_background_of_a_segmented_image_is_minus_one(self) -> None:
        mask = (GREY > 100).astype(np.uint8)
        image = segment(GREY, mask)
        assert image.dtype == np.uint8
        assert np.array_equal(image, np.where(mask, GREY, 0))
        assert (to_signed(torch.from_numpy(image))[torch.from_numpy(mask) == 0] == -1).all()
        assert (to_signed(torch.from_numpy(np.zeros_like(GREY))) == -1).all()
