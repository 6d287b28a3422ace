"""The numbers in a picture of masks, and which of them are objects.

Shape letters: H W height and width of the image.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from ...errors import DataError
from .label_maps import pages_of, refuse_jpeg

# The modes that have an alpha channel, and what they are without it.
_ALPHA = {"LA": "L", "RGBA": "RGB"}
# The number and the colour that VOC's pictures have at the borders of objects.
_VOID = 255
_VOID_COLOUR = (224, 224, 192)
# Colours are those of objects if they have so many pixels each, in the mean, and so many of these
# have their neighbour's colour. What differs more, of a product of two bytes, is another hue.
_PIXELS_OF_COLOUR, _FLAT, _HUE = 16, 0.5, 2 * 255


def read_masks(file: Path, size: tuple[int, int], image: Path) -> list[np.ndarray]:
    """Return the numbers in a picture of masks, with 0 where it is transparent.

    Args:
        file: of the masks. A TIFF of several pages has an object in each, as ImageJ's stacks have,
            unless the image has several pages: of these the first is read, and so of the masks.
        size: (H, W) of the image.
        image: its path.

    Returns:
        An array [H, W] or [H, W, channels] for each page.

    Raises:
        DataError: the file can't be read, has another size than its image, or has several objects
            in one of several pages.
    """
    try:
        with Image.open(file) as picture:
            refuse_jpeg(file, picture)
            pages = _pages(picture, image)
    except DataError:
        raise
    except Exception as error:  # Pillow's decoders can raise any error for a broken file
        raise DataError(f"{file} can't be read as a mask: {error}. Export it again.") from error
    for values in pages:
        if values.shape[:2] != size:
            raise DataError(
                f"{file} is {values.shape[1]}x{values.shape[0]} pixels, but its image {image} is "
                f"{size[1]}x{size[0]}. Export the mask in the size of the image."
            )
    several = len(pages) > 1 and [has_labels(values) for values in pages]
    if several and any(several):
        raise DataError(
            f"{file} has {len(pages)} pages, and page {several.index(True) + 1} has several "
            "values. Save one page, with a value for each object, or a page for each object, "
            "0 where it is not."
        )
    return pages


def has_labels(values: np.ndarray) -> bool:
    """Return whether a picture has a value for each of several objects.

    Otherwise it has one object, perhaps with a soft border: shades up to white.

    Args:
        values: [H, W], or with channels, which are equal in a grey picture.
    """
    if values.ndim == 3:
        if (values != values[:, :, :1]).any():
            return _has_flat_colours(values)
        values = values[:, :, 0]
    found = np.unique(values[values != 0])
    if len(found) < 2:
        return False
    if values.dtype.kind == "f":
        return bool((found == np.floor(found)).all() and found[-1] != 255)
    return bool(found[-1] != np.iinfo(values.dtype).max)


def numbers_of_colours(values: np.ndarray) -> np.ndarray:
    """Return a number for each colour, int64 [H, W], of a picture [H, W, channels] of bytes."""
    codes: np.ndarray = values.astype(np.int64) @ (1 << 8 * np.arange(values.shape[2]))
    return codes


def _has_flat_colours(values: np.ndarray) -> bool:
    """Return whether colours are numbers of objects, and neither a photograph nor shades of one.

    Most pixels then have the colour of the pixel beside them.
    """
    codes = numbers_of_colours(values)
    colours, counts = np.unique(codes[codes != 0], return_counts=True)
    if len(colours) < 2 or len(colours) > counts.sum() / _PIXELS_OF_COLOUR:
        return False
    beside = (codes[:, 1:] == codes[:, :-1]) & (codes[:, 1:] != 0)
    if beside.sum() < _FLAT * counts.sum():
        return False
    shades = (colours[:, None] >> 8 * np.arange(values.shape[2])) & 255
    most = shades[counts.argmax()]
    # Of a soft border every colour is the object's, but darker.
    return bool((np.abs(shades * most.max() - shades.max(1, keepdims=True) * most) > _HUE).any())


def _pages(picture: Image.Image, image: Path) -> list[np.ndarray]:
    places = pages_of(picture)
    if len(places) > 1 and _count_pages(image) > 1:
        places = [0]
    pages = []
    for index in places:
        picture.seek(index)
        pages.append(_without_void(picture, _opaque(picture)))
    return pages


def _without_void(picture: Image.Image, values: np.ndarray) -> np.ndarray:
    """Return the numbers of a page with 0 where VOC's border is, which belongs to no object.

    It has the number 255, in a palette of VOC's or beside the numbers 1, 2, ... in a row, or VOC's
    colour; a picture of nothing else has an object of that value.
    """
    if values.ndim == 3:
        void = (values[:, :, :3] == _VOID_COLOUR).all(axis=2)
        others = bool((values[~void] != 0).any())
        return np.where(void[:, :, None], 0, values) if void.any() and others else values
    if values.dtype != np.uint8:
        return values
    numbers = np.unique(values[(values != 0) & (values != _VOID)])
    if not len(numbers) or numbers[-1] == _VOID - 1:
        return values
    start = 3 * _VOID
    palette = (picture.getpalette() or [])[start : start + 3] if picture.mode == "P" else []
    at_255 = values == _VOID
    is_row = len(numbers) > 1 and numbers[-1] == len(numbers)
    is_row = is_row and at_255.sum() < (values != 0).sum() / 2  # else a soft border has 1 and 2
    is_void = tuple(palette) == _VOID_COLOUR or is_row
    return np.where(at_255, 0, values).astype(np.uint8) if is_void else values


def _count_pages(image: Path) -> int:
    try:
        with Image.open(image) as picture:
            return int(getattr(picture, "n_frames", 1))
    except Exception:  # whether it is a picture, its reader says
        return 1


def _opaque(picture: Image.Image) -> np.ndarray:
    """Return the numbers of a page, 0 where it is transparent.

    What is drawn in black on nothing, as cut-out objects are, has the number 1.
    """
    without = _ALPHA.get(picture.mode)
    if without is None:
        values = np.asarray(picture.convert("P") if picture.mode == "PA" else picture)
        return np.nan_to_num(values) if values.dtype.kind == "f" else values
    values = np.asarray(picture.convert(without))
    seen = np.asarray(picture.getchannel("A")) > 0
    if seen.all() or not seen.any():
        return values
    if not values[seen].any():
        return seen.astype(np.uint8)
    return np.where(seen if values.ndim == 2 else seen[:, :, None], values, 0)
