"""Image files that can be read in parts, without decoding the rest: .npy, TIFF, GDAL's formats.

Shape letters: H W height and width of the image, h w height and width of a window.
"""

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ...errors import DataError, first_line
from .images import is_turned

# Rows top to bottom and columns left to right of an image: [h, w] or, red first, [h, w, 3].
Read = Callable[[int, int, int, int], np.ndarray]
Opened = tuple[tuple[int, int], Read]

# Values of TIFF's tags.
_CONTIGUOUS, _MIN_IS_BLACK, _RGB = 1, 1, 2
_DEPTHS = ("uint8", "uint16", "int16", "int32", "float32")


def open_npy(path: str) -> Opened:
    """Map a .npy file into memory.

    Raises:
        DataError: the file can't be read, or its array is not an image.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path} can't be read as an image: {first_line(error)}") from error
    grey = array.ndim == 2 and array.dtype.name in _DEPTHS
    colour = array.ndim == 3 and array.shape[2] in (3, 4) and array.dtype == np.uint8
    if not (grey or colour) or not array.size:
        raise DataError(
            f"{path} has an array of {array.dtype} {list(array.shape)}. An image in a .npy file "
            "must be uint8 [H, W], [H, W, 3] or [H, W, 4], red first, or grayscale of more bits. "
            "Convert the array."
        )
    return (array.shape[0], array.shape[1]), _part_of(array)


def _part_of(array: np.ndarray) -> Read:
    if array.ndim == 2:
        return lambda top, left, bottom, right: array[top:bottom, left:right]
    return lambda top, left, bottom, right: array[top:bottom, left:right, :3]


def open_tiff(path: str) -> Opened | None:
    """Open the first page of a TIFF with tifffile.

    Returns:
        The size of the image and a function that reads windows. None if tifffile is not installed,
        or the page is of a kind that only Pillow reads: with a palette, in planes, turned by a tag,
        or with a compression that tifffile can't decode.
    """
    if is_turned(path):
        return None
    try:
        import tifffile
    except ModuleNotFoundError:
        return None
    try:
        file = tifffile.TiffFile(path)
    except (OSError, ValueError):
        return None  # Pillow's error will say what is wrong
    page: Any = file.pages[0]  # the first one has all of its tags
    if not _is_plain(page):
        file.close()
        return None
    size = (page.imagelength, page.imagewidth)
    if page.is_memmappable:
        array = tifffile.memmap(path, page=0, mode="r")
        file.close()
        return size, _part_of(array.reshape((*size, -1)) if page.samplesperpixel > 1 else array)

    def read(top: int, left: int, bottom: int, right: int) -> np.ndarray:
        return _decode(page, top, left, bottom, right)

    try:
        page.decode(None, 0)  # without data this only checks that there is a decoder
    except (ValueError, NotImplementedError, ImportError):
        file.close()
        return None
    return size, read


def _is_plain(page: Any) -> bool:
    """Return whether the values of a TIFF's page are those that Pillow would return."""
    if page.imagedepth != 1 or int(page.planarconfig) != _CONTIGUOUS:
        return False
    if str(page.dtype) not in _DEPTHS:
        return False
    if page.samplesperpixel == 1:
        return int(page.photometric) == _MIN_IS_BLACK and page.bitspersample >= 8
    is_colour = int(page.photometric) == _RGB and page.samplesperpixel in (3, 4)
    return is_colour and str(page.dtype) == "uint8"


def _decode(page: Any, top: int, left: int, bottom: int, right: int) -> np.ndarray:
    """Decode the strips or tiles of a page that overlap a window, and assemble the window."""
    channels = page.samplesperpixel
    window = np.zeros((bottom - top, right - left, channels), page.dtype)
    tables = {"jpegtables": page.jpegtables} if page.jpegtables is not None else {}
    for index in _touched(page, top, left, bottom, right):
        offset, count = page.dataoffsets[index], page.databytecounts[index]
        data = _bytes(page.parent.filehandle, offset, count) if count else None
        decoded, (_, _, row, column, _), shape = page.decode(data, index, **tables)
        if decoded is None:
            continue  # a tile that the file omits is black
        first, last = max(top, row), min(bottom, row + shape[1])
        start, stop = max(left, column), min(right, column + shape[2])
        window[first - top : last - top, start - left : stop - left] = decoded[
            0, first - row : last - row, start - column : stop - column
        ]
    return window[:, :, 0] if channels == 1 else window[:, :, :3]


def _bytes(file: Any, offset: int, count: int) -> bytes:
    with file.lock:
        file.seek(offset)
        data = file.read(count)
    if len(data) < count:
        raise OSError("the file is truncated before this window")
    return data


def _touched(page: Any, top: int, left: int, bottom: int, right: int) -> Iterator[int]:
    """Yield the indices of a page's tiles, or strips, that overlap a window."""
    if page.is_tiled:
        height, width = page.tilelength, page.tilewidth
    else:
        height, width = page.rowsperstrip, page.imagewidth
    across = -(-page.imagewidth // width)
    for row in range(top // height, -(-bottom // height)):
        for column in range(left // width, -(-right // width)):
            yield row * across + column


def open_rasterio(path: str) -> Opened | None:
    """Open an image with rasterio, whose GDAL can read windows of most geospatial formats.

    Returns:
        The size of the image and a function that reads windows. None if rasterio is not installed,
        or the image is of a kind that only Pillow reads.
    """
    if is_turned(path):
        return None
    try:
        import rasterio
    except ModuleNotFoundError:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pictures that are no maps lie nowhere
            image = rasterio.open(path)
    except rasterio.errors.RasterioError:
        return None
    kinds = [interpretation.name for interpretation in image.colorinterp]
    colour = kinds[:3] == ["red", "green", "blue"] and image.dtypes[0] == "uint8"
    if not colour and (kinds != ["gray"] or image.dtypes[0] not in _DEPTHS):
        image.close()
        return None
    bands = [1, 2, 3] if colour else [1]

    def read(top: int, left: int, bottom: int, right: int) -> np.ndarray:
        values = image.read(bands, window=((top, bottom), (left, right)))
        return values.transpose(1, 2, 0) if colour else values[0]

    return (image.height, image.width), read
