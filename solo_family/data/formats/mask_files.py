"""The numbers in a picture of masks, and which of them are objects.

Shape letters: H W height and width of the image.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from ...errors import DataError
from .label_maps import refuse_jpeg

# The modes that have an alpha channel, and what they are without it.
_ALPHA = {"LA": "L", "RGBA": "RGB"}
# The TIFF tag of a page that is a smaller copy of another (1) or its mask (4).
_SUBFILE, _COPY_OR_MASK = 254, 1 | 4


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
            return False
        values = values[:, :, 0]
    found = np.unique(values[values != 0])
    if len(found) < 2:
        return False
    if values.dtype.kind == "f":
        return bool((found == np.floor(found)).all() and found[-1] != 255)
    return bool(found[-1] != np.iinfo(values.dtype).max)


def _pages(picture: Image.Image, image: Path) -> list[np.ndarray]:
    count = getattr(picture, "n_frames", 1) if picture.format == "TIFF" else 1
    if count > 1 and _count_pages(image) > 1:
        count = 1
    pages = []
    for index in range(count):
        if count > 1:
            picture.seek(index)
            if int(getattr(picture, "tag_v2", {}).get(_SUBFILE, 0)) & _COPY_OR_MASK:
                continue
        pages.append(_opaque(picture))
    return pages


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
