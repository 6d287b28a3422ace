"""Read the values that a file has, where a decoder of pictures would change, drop or not read them.

These are arrays (.npy, .npz), TIFFs of many bands or of colours deeper than 8 bits, PNGs of 16
bits, JPEG 2000 of more than 8, and PGM and PPM whose white is not 255. Everything else is a picture
of 8 bits, which its reader decodes.

H W of an image, C of its channels.
"""

import logging
import mmap
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, BinaryIO

import cv2
import numpy as np

from ..errors import DataError
from . import jpeg2000, netpbm, tiff
from .depth import fills_16_bits, to_8_bits
from .formats import Format, check_channels
from .not_pictures import what_it_is

logger = logging.getLogger(__name__)

# In an .npz with several arrays, the one that is the image.
_NAMES = ("image", "arr_0")
_PNG = b"\x89PNG\r\n\x1a\n"
_NPY, _ZIP = b"\x93NUMPY", (b"PK\x03\x04", b"PK\x05\x06")


@dataclass(frozen=True)
class Stored:
    """An image in a file, not yet decoded.

    Attributes:
        height, width: in pixels, upright.
        channels: C.
        dtype: of the values.
        pages: of the file.
        has_alpha: the last channel is transparency.
        is_array: it is an array of numbers, and no picture.
        read: returns the values, [H, W, C], colours red first, while the file is open.
        white: the value that is white, if the file says so.
    """

    height: int
    width: int
    channels: int
    dtype: np.dtype
    pages: int
    has_alpha: bool
    is_array: bool
    read: Callable[[], np.ndarray]
    white: int | None = None


def open_stored(
    path: str,
    data: BinaryIO,
    wanted: Format,
    page: int | None = None,
    *,
    by_opencv: bool = False,
) -> Stored | None:
    """Return an image whose own values are to be read; None for a picture of 8 bits.

    Args:
        path: named in errors.
        data: the open file; it is left at its beginning.
        wanted: the format that it is read for. If that has the file's own channels, a TIFF of 8
            bits is not None, and of as many pages with a band each, each is a channel.
        page: of a TIFF, from 1, that is a picture of its own; None for the first.
        by_opencv: whether OpenCV reads what is None here, and not Pillow. A TIFF of colours with
            transparency is not None then, because OpenCV multiplies the colours by it.

    Raises:
        DataError: it begins like such a file, but is broken, or holds something else.
    """
    head = data.read(32)
    try:
        if head.startswith(_NPY):
            return _npy(path, data)
        if head.startswith(_ZIP):
            return _npz(path, data)
        if head.startswith(_PNG) and head[24:25] == b"\x10":
            return _png(head, data)
        if jpeg2000.is_jpeg2000(head):
            return _jpeg2000(mapped(data))
        if head[:1] == b"P":
            return _netpbm(mapped(data))
        if tiff.is_tiff(head):
            counted = 0 if wanted.is_converted else wanted.count
            return _tiff(path, mapped(data), counted, page, by_opencv)
    except DataError:
        raise
    except Exception as error:  # a broken file provokes anything
        raise unreadable(path, error) from error
    finally:
        data.seek(0)
    return None


def values_in_8_bits(
    path: str, stored: Stored, wanted: Format, value_range: tuple[float, float] | None
) -> np.ndarray:
    """Return a file's own values as uint8, without transparency where colours are wanted.

    Args:
        path: named in errors.
        stored: the file.
        wanted: the format that they are for.
        value_range: see `to_8_bits`.

    Raises:
        OtherChannels, UntoldRange: see `check_channels`, `to_8_bits`.
    """
    channels = stored.channels - (stored.has_alpha and wanted.drops_alpha)
    check_channels(path, channels, wanted)
    values = stored.read()[:, :, :channels]
    is_colour = stored.channels > 1 and not stored.is_array and values.dtype == np.uint16
    if value_range is None and stored.white is not None:
        if is_colour:
            return np.round(values * (255 / stored.white)).astype(np.uint8)  # as Pillow does
        return to_8_bits(path, values, (0, stored.white))
    if value_range is None and is_colour and wanted.is_converted and fills_16_bits(values):
        return (values >> 8).astype(np.uint8)  # as Pillow, and so detectron2, reads them
    return to_8_bits(path, values, value_range)


def unreadable(path: str, error: Exception) -> DataError:
    """Return the error of a file that can't be read as an image."""
    reason = what_it_is(path) or str(error) or type(error).__name__
    return DataError(f"{path} can't be read as an image: {reason}")


def mapped(data: BinaryIO) -> Any:
    """Return a file's bytes, without reading all of them where it is a real file."""
    try:
        return mmap.mmap(data.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError):  # it has no number, or is empty
        data.seek(0)
        return data.read()


def _npy(path: str, data: BinaryIO) -> Stored:
    data.seek(0)
    shape, dtype = _array_header(data)

    def read() -> np.ndarray:
        data.seek(0)
        return np.lib.format.read_array(data, allow_pickle=False)

    return _array(path, shape, dtype, read)


def _npz(path: str, data: BinaryIO) -> Stored:
    with zipfile.ZipFile(data) as archive:
        names = [name for name in archive.namelist() if name.endswith(".npy")]
        known = [name for name in names if name.removesuffix(".npy") in _NAMES]
        if len(names) != 1 and not known:
            listed = ", ".join(name.removesuffix(".npy") for name in names) or "nothing"
            raise DataError(
                f"{path} holds {listed}; one array is needed, or one with the name "
                f"{_NAMES[0]!r}. Save it with numpy.savez(file, {_NAMES[0]}=array)."
            )
        name = (known or names)[0]
        with archive.open(name) as member:
            shape, dtype = _array_header(member)

    def read() -> np.ndarray:
        data.seek(0)
        with zipfile.ZipFile(data) as again, again.open(name) as member:
            return np.lib.format.read_array(member, allow_pickle=False)

    return _array(path, shape, dtype, read)


def _array_header(data: Any) -> tuple[tuple[int, ...], np.dtype]:
    version = np.lib.format.read_magic(data)
    first = version == (1, 0)
    read = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(data)
    return shape, dtype


def _array(
    path: str, shape: tuple[int, ...], dtype: np.dtype, read: Callable[[], np.ndarray]
) -> Stored:
    if dtype.kind not in "biuf" or len(shape) not in (2, 3) or 0 in shape:
        raise DataError(
            f"{path} is an array of {dtype}, {list(shape)}; an image is of numbers, [H, W], "
            "[H, W, C] or [C, H, W]."
        )
    channels_first = len(shape) == 3 and shape[0] < shape[2]
    height, width, channels = (*shape, 1) if len(shape) == 2 else shape
    if channels_first:
        channels, height, width = shape

    def ordered() -> np.ndarray:
        values = read()
        values = values.transpose(1, 2, 0) if channels_first else values
        return values.reshape(height, width, channels).astype(dtype.newbyteorder("="))

    return Stored(height, width, channels, dtype, 1, False, True, ordered)


def _png(head: bytes, data: BinaryIO) -> Stored:
    width, height = struct.unpack(">II", head[16:24])
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[head[25]]

    def read() -> np.ndarray:
        data.seek(0)
        values = cv2.imdecode(np.frombuffer(data.read(), np.uint8), cv2.IMREAD_UNCHANGED)
        if values is None:
            raise ValueError("OpenCV can't decode it")
        values = values.reshape(height, width, -1)
        if values.shape[2] == channels + 1:  # an alpha that a single colour stands for
            values = values[:, :, :channels]
        if channels == 2 and values.shape[2] == 4:  # grey, three times
            values = values[:, :, 2:]
        return values if channels < 3 else values[:, :, [2, 1, 0, 3][:channels]]

    return Stored(height, width, channels, np.dtype("u2"), 1, channels in (2, 4), False, read)


def _jpeg2000(data: Any) -> Stored | None:
    header = jpeg2000.read_header(data)
    if not header.is_deep:
        return None
    count, dtype = len(header.bits), np.dtype("u2")

    def read() -> np.ndarray:
        return jpeg2000.decode(data, header)

    return Stored(header.height, header.width, count, dtype, 1, count == 4, False, read)


def _netpbm(data: Any) -> Stored | None:
    header = netpbm.read_header(data)
    if header is None:
        return None
    dtype = np.dtype("u2" if header.is_deep else "u1")

    def read() -> np.ndarray:
        return netpbm.decode(data, header)

    size = header.height, header.width, header.channels
    return Stored(*size, dtype, 1, False, False, read, header.white)


def _tiff(path: str, data: Any, counted: int, page: int | None, by_opencv: bool) -> Stored | None:
    try:
        pages = tiff.read_pages(data)
        pages = pages if page is None else pages[page - 1 : page]
        first = pages[0]
    except (IndexError, ValueError, struct.error):
        if counted:
            raise
        return None  # whether it is a picture, its reader says
    by_us = by_opencv and not counted and first.is_clear_colour
    if not counted and first.is_ordinary and not by_us:
        if first.has_fourth_band:
            _name_band(path)
        return None
    alike = [p for p in pages if (p.height, p.width, p.bands) == (first.height, first.width, 1)]
    stack = alike if len(alike) == len(pages) == counted else [first]
    if not all(one.is_plain for one in stack):
        if first.bands > 4 or first.is_deep_colour:
            raise ValueError(f"its compression or kind of values is not read ({first.described})")
        return None

    def read() -> np.ndarray:
        values = np.concatenate([tiff.decode(one, data) for one in stack], axis=2)
        if by_us and first.is_multiplied:  # Pillow's pictures are not
            values = divided_by_alpha(values)
        return upright(values, first.orientation)

    turned = first.orientation in (5, 6, 7, 8)
    height, width = (first.width, first.height) if turned else (first.height, first.width)
    channels, left = (len(stack), 1) if len(stack) > 1 else (first.bands, len(pages))
    return Stored(height, width, channels, first.dtype, left, first.has_alpha, False, read)


@cache
def _name_band(path: str) -> None:
    logger.warning(
        "%s has a fourth band that is no transparency: it is not used. INPUT.FORMAT RGBN, say, "
        "takes four bands.",
        path,
    )


def divided_by_alpha(values: np.ndarray) -> np.ndarray:
    """Return colours that were multiplied by their transparency as they were, as Pillow does.

    Args:
        values: uint8 [H, W, 4].
    """
    alpha = values[:, :, 3:].astype(np.int64)
    colours = values[:, :, :3] * np.int64(255) // np.maximum(alpha, 1)
    colours = np.where(alpha == 0, values[:, :, :3], np.minimum(colours, 255))
    return np.concatenate([colours.astype(np.uint8), values[:, :, 3:]], axis=2)


def upright(values: np.ndarray, orientation: int) -> np.ndarray:
    """Turn an image by EXIF's orientation."""
    if orientation in (5, 6, 7, 8):
        values = values.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    return values
