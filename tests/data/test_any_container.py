"""One image in any container: all its bits arrive, whatever else the file holds."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pydicom
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from test_images import _dicom

from manet_lib.data.images import read_grey, read_mask, stretch
from manet_lib.params import UserError

Values = NDArray[Any]
SIDE = 24


def values_of(seed: int, bits: int, signed: bool = False) -> Values:
    """Random values of so many bits, the least and the greatest among them."""
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    values = np.random.default_rng(seed).integers(low, high, (SIDE, SIDE), endpoint=True)
    values[0, :2] = low, high
    kind = f"{'i' if signed else 'u'}{1 if bits <= 8 else 2 if bits <= 16 else 4}"
    return values.astype(kind)


def as_colours(values: Values, alpha: bool) -> Values:
    channels = [values] * 3 + [np.full_like(values, np.iinfo(values.dtype).max)] * alpha
    return np.stack(channels, axis=-1)


def with_opencv(ending: str, colours: bool, alpha: bool = False) -> Callable[[Values], bytes]:
    def write(values: Values) -> bytes:
        _, data = cv2.imencode(ending, as_colours(values, alpha) if colours else values)
        return data.tobytes()

    return write


def tiff(
    colours: bool = False, alpha: bool = False, planar: bool = False, **options: Any
) -> Callable[[Values], bytes]:
    def write(values: Values) -> bytes:
        stored = as_colours(values, alpha) if colours else values
        own: dict[str, Any] = {"photometric": "rgb"} if colours else {}
        own |= {"extrasamples": ["unassalpha"]} if alpha else {}
        if planar:
            stored, own = np.moveaxis(stored, -1, 0), own | {"planarconfig": "separate"}
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, stored, **own, **options)
        return buffer.getvalue()

    return write


SIXTEEN = {
    "PNG": with_opencv(".png", False),
    "PNG in colours": with_opencv(".png", True),
    "PNG with alpha": with_opencv(".png", True, True),
    "PGM": with_opencv(".pgm", False),
    "PPM": with_opencv(".ppm", True),
}
ANY = {
    "TIFF": tiff(),
    "big endian": tiff(byteorder=">"),
    "deflated": tiff(compression="zlib"),
    "in colours": tiff(colours=True),
    "with alpha": tiff(colours=True, alpha=True),
    "planar": tiff(colours=True, planar=True),
    "BigTIFF": tiff(bigtiff=True),
}


@given(st.integers(0, 2**32), st.sampled_from(sorted(SIXTEEN)))
def test_sixteen_bits_arrive_from_any_format(seed: int, container: str) -> None:
    values = values_of(seed, 16)
    assert np.array_equal(read_grey(Path("a"), SIXTEEN[container](values)), stretch(values.astype(float)))


@given(
    st.integers(0, 2**32), st.sampled_from(sorted(ANY)), st.sampled_from([9, 12, 16, 17, 31, 32]), st.booleans()
)
def test_all_bits_arrive_from_any_tiff(seed: int, container: str, bits: int, signed: bool) -> None:
    values = values_of(seed, bits, signed and "alpha" not in container)
    assert np.array_equal(read_grey(Path("a"), ANY[container](values)), stretch(values.astype(float)))


@given(st.integers(0, 2**32))
def test_signed_bytes_keep_their_sign(seed: int) -> None:
    values = values_of(seed, 8, signed=True)
    assert np.array_equal(read_grey(Path("a"), tiff()(values)), stretch(values.astype(float)))


@given(st.integers(0, 2**32), st.integers(8, 16), st.data(), st.booleans())
def test_other_bits_of_dicom_are_no_pixels(seed: int, stored: int, data: st.DataObject, signed: bool) -> None:
    values, high = values_of(seed, stored, signed), data.draw(st.integers(stored - 1, 15))
    mask = np.uint16(((1 << stored) - 1) << (high + 1 - stored))
    words = (values.astype(np.int64) << (high + 1 - stored)).astype(np.uint16)
    noise = np.random.default_rng(seed).integers(0, 1 << 16, values.shape, dtype=np.uint16)
    file = _dicom(
        (words & mask) | (noise & ~mask), BitsStored=stored, HighBit=high, PixelRepresentation=int(signed)
    )
    assert np.array_equal(read_grey(Path("a"), file), stretch(values.astype(float)))


@given(st.integers(0, 2**32), st.lists(st.sampled_from([2, 3, 4]), max_size=3), st.data())
def test_thumbnails_are_passed_over_and_a_second_picture_is_refused(
    seed: int, smaller: list[int], data: st.DataObject
) -> None:
    values, place = values_of(seed, 8), data.draw(st.integers(0, len(smaller)))
    twice = data.draw(st.booleans())
    pages = [values[::step, ::step] for step in smaller]
    pages[place:place] = [values] * (2 if twice else 1)
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as file:
        for page in pages:
            reduced = page.shape != values.shape and data.draw(st.booleans())
            file.write(page, subfiletype=1 if reduced else 0)
    if twice:
        with pytest.raises(UserError, match=r"^a: holds 2 images of 24×24; save each in a file of its own$"):
            read_grey(Path("a"), buffer.getvalue())
    else:
        assert np.array_equal(read_grey(Path("a"), buffer.getvalue()), values)


@pytest.mark.parametrize("ending", ["GIF", "PNG", "WEBP"])
def test_animations_are_refused(ending: str) -> None:
    first, second = (Image.fromarray(values_of(seed, 8)) for seed in (0, 1))
    buffer = io.BytesIO()
    first.save(buffer, ending, save_all=True, append_images=[second])
    with pytest.raises(UserError, match="holds 2 images of 24×24"):
        read_grey(Path("a"), buffer.getvalue())


@given(st.integers(0, 2**32), st.sampled_from(sorted(ANY)))
def test_a_mask_is_the_same_in_any_container(seed: int, container: str) -> None:
    mask = np.random.default_rng(seed).random((SIDE, SIDE)) > 0.5
    levels = mask.astype(np.uint16) * 700
    assert np.array_equal(read_mask(Path("a"), mask.shape, ANY[container](levels)), mask)


@given(
    st.binary(max_size=400),
    st.sampled_from([b"", b"II*\0", b"MM\0*", b"\x89PNG\r\n\x1a\n", b"\0" * 128 + b"DICM"]),
)
def test_any_bytes_are_an_image_or_one_line(data: bytes, start: bytes) -> None:
    try:
        found = read_grey(Path("a.png"), start + data)
    except UserError as error:
        assert str(error).startswith("a.png: ")
        assert str(error).isprintable()
    else:
        assert found.dtype == np.uint8


@given(st.data(), st.sampled_from(["PNG", "TIFF", "dcm"]))
def test_damaged_bytes_are_an_image_or_one_line(data: st.DataObject, kind: str) -> None:
    values = values_of(0, 16)
    file = bytearray({"PNG": SIXTEEN["PNG in colours"], "TIFF": ANY["planar"], "dcm": _dicom}[kind](values))
    for _ in range(data.draw(st.integers(1, 5))):
        file[data.draw(st.integers(0, len(file) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = read_grey(Path("a"), bytes(file))
    except UserError as error:
        assert str(error).isprintable()
    else:
        assert found.dtype == np.uint8


def test_dicom_is_read_as_pydicom_reads_it_where_nothing_is_odd() -> None:
    values = values_of(3, 12)
    file = _dicom(values, BitsStored=12, HighBit=11)
    assert np.array_equal(pydicom.dcmread(io.BytesIO(file)).pixel_array, values)
    assert np.array_equal(read_grey(Path("a"), file), stretch(values.astype(float)))
