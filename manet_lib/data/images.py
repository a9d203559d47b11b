"""Reading images and masks by content, whatever their files hold."""

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, PngImagePlugin, UnidentifiedImageError

from manet_lib.data.scaling import resize
from manet_lib.params import UserError

_LABELS = 8
"""A mask with at most this many grey levels is a label map; soft edges and JPEG produce more."""

LARGEST = 500_000_000
"""Images with more pixels than this are refused: no radiograph is that large, and they would fill the memory."""

SMALLEST = 16
"""Images with fewer pixels than this on a side are refused: nothing could be seen on them."""


def read_grey(path: Path, data: bytes | None = None) -> NDArray[np.uint8]:
    """Read an image as 8-bit grey, whatever its file holds.

    The format is recognised by content; of a file with thumbnails, the full-size picture is read. Palette, RGB and
    RGBA become grey (ITU-R 601-2), transparent pixels black; more than 8 bits and DICOM are stretched from their
    own minimum and maximum to 0..255. Images are turned as EXIF says, and those with white at zero are inverted.
    DICOM values go through the modality LUT, then through the VOI LUT or window where it can be used; MONOCHROME1
    is inverted, and padding becomes black.

    Args:
        path: the file, named in messages.
        data: its bytes, if they have been read already.

    Returns:
        uint8, (H, W).

    Raises:
        UserError: the file is missing, empty, truncated, no image, under ``SMALLEST`` pixels on a side, over
            ``LARGEST`` in all, holds several full-size pictures, or is compressed in a way that needs another
            package, which is named.
    """
    pixels = _decode(path, _bytes(path) if data is None else data)
    if min(pixels.shape) < SMALLEST:
        height, width = pixels.shape
        raise UserError(f"{path.name}: {width}×{height} pixels; expected at least {SMALLEST} on each side")
    return pixels


def read_mask(path: Path, shape: tuple[int, int] | None, data: bytes | None = None) -> NDArray[np.bool_]:
    """Read a lung mask drawn for an image of the given shape.

    A mask of another size but the same proportions (within 2%) is resized by nearest neighbour.

    Args:
        path: the file, named in messages.
        shape: height and width of the image; None keeps the mask's own.
        data: its bytes, if they have been read already.

    Returns:
        bool, of that shape. In a file of few levels, such as a label map, all above the lowest is lung; else what
        is brighter than half of its range.

    Raises:
        UserError: the file cannot be read, or its proportions are not those of the image.
    """
    pixels = _decode(path, _bytes(path) if data is None else data)
    height, width = shape or pixels.shape
    if abs(pixels.shape[1] * height / (pixels.shape[0] * width) - 1) > 0.02:
        raise UserError(
            f"{path.name}: a mask of {pixels.shape[1]}×{pixels.shape[0]} does not fit its image of "
            f"{width}×{height}; draw it on the image"
        )
    mask = _above_background(pixels)
    return resize(mask.astype(np.uint8), (height, width), smooth=False).astype(bool)


def _above_background(pixels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """The lungs of an annotated mask; in a file of a single level, all that is not black is lung."""
    low, high = int(pixels.min()), int(pixels.max())
    if low == high:
        return pixels > 0
    few = np.count_nonzero(np.bincount(pixels.ravel(), minlength=256)) <= _LABELS
    return pixels > (low + (high - low) / 32 if few else (low + high) / 2)


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
        with raised_limits(), Image.open(io.BytesIO(data)) as opened:
            _choose(opened)
            check_size(opened.width, opened.height)
            if _loses_bits(opened):
                return deep_to_grey(opened, data)
            opened.load()
            return picture_to_grey(opened)
    except UnidentifiedImageError:
        return _decode_other(path, data)
    except SeveralPictures as error:
        raise UserError(f"{path.name}: {error}") from None
    except Exception as error:  # Pillow raises many kinds for broken files
        raise UserError(f"{path.name}: cannot be read: {' '.join(str(error).split())}") from None


def check_size(width: int, height: int) -> None:
    """Refuse pictures of more than ``LARGEST`` pixels.

    Raises:
        ValueError: the picture is larger.
    """
    if width * height > LARGEST:
        raise ValueError(f"{width}×{height} pixels; expected at most {LARGEST:,}")


def _decode_other(path: Path, data: bytes) -> NDArray[np.uint8]:
    """What Pillow does not know: DICOM without preamble and meta header, and some TIFF that is white at zero."""
    if data[:2] in (b"II", b"MM"):
        try:
            return stretch(*_tiff_values(data, 0))
        except Exception as error:  # tifffile, too
            raise UserError(f"{path.name}: cannot be read: {' '.join(str(error).split())}") from None
    from manet_lib.data.dicom import is_dicom

    if is_dicom(data):
        return _decode_dicom(path, data)
    raise UserError(f"{path.name}: not an image that can be read (PNG, JPEG, TIFF, DICOM, ...)")


class SeveralPictures(ValueError):
    """A file that holds more than one picture of the largest size."""

    def __init__(self, count: int, width: int, height: int) -> None:
        super().__init__(f"holds {count} images of {width}×{height}; save each in a file of its own")


_REDUCED_OR_MASK = 1 | 4
"""Bits of TIFF's NewSubfileType that say that a picture is a thumbnail or a mask of another one."""


def _choose(picture: Image.Image) -> None:
    """Turn to the largest picture of a file; thumbnails and the masks of TIFF do not count.

    Raises:
        SeveralPictures: several have that size.
    """
    count = getattr(picture, "n_frames", 1)
    if count == 1:
        return
    sizes = []
    for number in range(count):
        picture.seek(number)
        side = getattr(picture, "tag_v2", {}).get(254, 0) & _REDUCED_OR_MASK
        sizes.append(0 if side else picture.width * picture.height)
    largest = [number for number, size in enumerate(sizes) if size == max(sizes)]
    picture.seek(largest[0])
    if len(largest) > 1:
        raise SeveralPictures(len(largest), picture.width, picture.height)


def _loses_bits(picture: Image.Image) -> bool:
    """Whether Pillow would cut the values of a picture to 8 bits, or read them with the wrong sign."""
    if picture.format == "TIFF":
        tags: Any = getattr(picture, "tag_v2", {})
        deep, kinds = max(tags.get(258, (1,))) > 8, set(tags.get(339, (1,)))
        several = tags.get(277, 1) > 1
        return (deep and several) or (not deep and kinds == {2}) or (picture.mode == "I" and kinds == {1})
    if picture.format == "JPEG2000":
        return len(picture.getbands()) > 1
    tile: Any = getattr(picture, "tile", None)
    said = tile[0].args if tile else ()
    parts = said if isinstance(said, tuple) else (said,)
    several = len(picture.getbands()) > 1
    return several and any(";16" in str(one) or (isinstance(one, int) and one > 255) for one in parts)


def deep_to_grey(picture: Image.Image, data: bytes) -> NDArray[np.uint8]:
    """A picture for which :func:`_loses_bits` holds as 8-bit grey (H, W), stretched from its own range."""
    if picture.format == "TIFF":
        values, padding = _tiff_values(data, picture.tell())
        turn = getattr(picture, "tag_v2", {}).get(274, 1)
    else:
        stored = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
        if stored is None:
            raise ValueError("its pixels cannot be decoded")
        if stored.dtype == np.uint8:  # of JPEG 2000, which says nothing before
            return picture_to_grey(picture)
        colours = stored[..., 2::-1] if stored.ndim == 3 and stored.shape[2] > 2 else stored
        values, padding = _grey(colours, stored[..., 3] if stored.ndim == 3 and stored.shape[2] == 4 else None)
        turn = picture.getexif().get(274, 1)
    upright = Image.fromarray(stretch(values, padding))
    upright.getexif()[ExifTags.Base.Orientation] = turn
    return np.asarray(ImageOps.exif_transpose(upright))


def _grey(colours: NDArray[Any], alpha: NDArray[Any] | None) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Grey values (H, W) of one or three channels over black, and where all is transparent."""
    values = colours.astype(np.float64)
    if values.ndim == 3:  # ITU-R 601-2 in whole thousandths, so that grey in colours stays exactly what it was
        values = values @ np.array([299.0, 587.0, 114.0]) / 1000 if values.shape[2] == 3 else values[..., 0]
    if alpha is None:
        return values, np.zeros(values.shape, bool)
    top = np.iinfo(alpha.dtype).max if alpha.dtype.kind in "iu" else 1.0
    return values * (alpha.astype(np.float64) / top), alpha == 0


def _tiff_values(data: bytes, number: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Grey values (H, W) of a TIFF page with all its bits, larger is brighter, and where it is transparent."""
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page: Any = file.pages[number]
        check_size(page.imagewidth, page.imagelength)
        if page.photometric == tifffile.PHOTOMETRIC.SEPARATED:
            raise ValueError("its colours are CMYK of more than 8 bits; save it as grey or RGB")
        try:
            stored = page.asarray()
        except ValueError as error:
            if "imagecodecs" in str(error):
                way = "which needs another package; pip install imagecodecs"
                raise ValueError(f"compressed as {page.compression.name}, {way}") from None
            raise
        several, planar = page.samplesperpixel > 1, page.planarconfig == tifffile.PLANARCONFIG.SEPARATE
        channels = np.moveaxis(stored, 0, -1) if several and planar else stored
        count = 3 if page.photometric == tifffile.PHOTOMETRIC.RGB else 1
        kinds = [int(kind) for kind in page.extrasamples]
        alpha = channels[..., count + kinds.index(2)] if several and 2 in kinds else None
        values, padding = _grey(channels[..., :count] if several else channels, alpha)
        return -values if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE else values, padding


class _Limits:
    """Pillow's limits, lifted while images are read, in however many threads; :data:`LARGEST` holds instead."""

    def __init__(self) -> None:
        self.lock, self.readers, self.before = threading.Lock(), 0, (Image.MAX_IMAGE_PIXELS, 0, 0)

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Lift them until the block ends."""
        with self.lock:
            if self.readers == 0:
                self.before = Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY
                Image.MAX_IMAGE_PIXELS = None
                PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY = 1 << 30
            self.readers += 1
        try:
            yield
        finally:
            with self.lock:
                self.readers -= 1
                if self.readers == 0:
                    (
                        Image.MAX_IMAGE_PIXELS,
                        PngImagePlugin.MAX_TEXT_CHUNK,
                        PngImagePlugin.MAX_TEXT_MEMORY,
                    ) = self.before


raised_limits = _Limits()
"""``with raised_limits():`` reads pictures of any size and with text of any length; see :func:`check_size`."""


def picture_to_grey(picture: Image.Image) -> NDArray[np.uint8]:
    """A picture of any mode as 8-bit grey (H, W); see :func:`read_grey`."""
    inverted = _is_deep_white_at_zero(picture)
    if picture.format != "TIFF":  # which Pillow turns by itself
        with suppress(Exception):  # Pillow raises many kinds for damaged EXIF data, which does not matter here
            picture = ImageOps.exif_transpose(picture)
    if picture.mode in ("L", "1") and "transparency" not in picture.info:
        return np.asarray(picture.convert("L"))
    if picture.mode.startswith(("I", "F")):  # values over 2³¹ are read by deep_to_grey
        values = np.asarray(picture, dtype=np.float64)
        return stretch(-values if inverted else values)
    if "A" in picture.mode or "transparency" in picture.info:
        layered = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", layered.size, (0, 0, 0, 255)), layered)
    return np.asarray(picture.convert("RGB").convert("L"))


def _is_deep_white_at_zero(picture: Image.Image) -> bool:
    """Whether a TIFF of more than 8 bits has white at zero; Pillow inverts those of 8 bits, and only those."""
    tags = getattr(picture, "tag_v2", {})
    return picture.mode.startswith(("I", "F")) and tags.get(262) == 0


def _decode_dicom(path: Path, data: bytes) -> NDArray[np.uint8]:
    from manet_lib.data.dicom import read_frame

    try:
        values, padding = read_frame(data)
        if values.ndim == 3:  # in colours
            return picture_to_grey(Image.fromarray(values.astype(np.uint8)))
        return stretch(values, padding)
    except Exception as error:  # pydicom raises many kinds for broken files
        raise UserError(f"{path.name}: DICOM that cannot be read: {' '.join(str(error).split())}") from None


def stretch(values: NDArray[np.float64], padding: NDArray[np.bool_] | None = None) -> NDArray[np.uint8]:
    """Stretch grey values from their own minimum and maximum to 0..255.

    Args:
        values: float (H, W).
        padding: bool (H, W); what takes no part in the stretch and becomes 0.

    Raises:
        ValueError: they are not all numbers.
    """
    if padding is not None and padding.any():
        if padding.all():
            return np.zeros(values.shape, np.uint8)
        values = np.where(padding, values[~padding].min(), values)
    low, high = values.min(), values.max()
    if not np.isfinite(high - low):
        raise ValueError("its pixels are not all numbers")
    return np.round((values - low) / max(high - low, 1e-12) * 255).astype(np.uint8)
