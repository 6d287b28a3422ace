"""Reads images of every kind that people have."""

import numpy as np
from detectron2.data.detection_utils import convert_PIL_to_numpy
from detectron2.utils.file_io import PathManager
from PIL import ExifTags, Image, ImageOps

from ...errors import DataError

_TURNED = (5, 6, 7, 8)  # EXIF orientations of pictures that lie on their side


def read_image(path: str, image_format: str) -> np.ndarray:
    """Reads an image as detectron2 does: turned upright by its EXIF tag, in the colours asked for.

    Grayscale becomes colour, transparency is dropped, CMYK is converted; 16-bit images are scaled
    to 8 bits (detectron2 would clip them at 255).

    Args:
        path: of a file that Pillow can read.
        image_format: "RGB", "BGR" or another mode of Pillow's.

    Returns:
        uint8 [H, W, C].

    Raises:
        DataError: the file is missing or can't be decoded; names it and the reason.
    """
    try:
        with PathManager.open(path, "rb") as file:
            image = ImageOps.exif_transpose(Image.open(file))
            if image.mode.startswith("I"):
                image = Image.fromarray((np.asarray(image) // 257).clip(0, 255).astype(np.uint8))
            # A copy: OpenCV and torch want neither read-only nor reversed views.
            return convert_PIL_to_numpy(image, image_format).copy()
    except Exception as error:  # Pillow's decoders raise whatever a broken file provokes
        raise _unreadable(path, error) from error


def read_image_size(path: str) -> tuple[int, int]:
    """Returns the height and width that `read_image` would give, from the file's header.

    Raises:
        DataError: the file is missing, or begins like no image; names it and the reason.
    """
    try:
        with PathManager.open(path, "rb") as file, Image.open(file) as image:
            # Pillow would decode the whole PNG to look for a tag behind the pixels.
            tags = {} if image.format == "PNG" and "exif" not in image.info else image.getexif()
            turned = tags.get(ExifTags.Base.Orientation) in _TURNED and image.format != "TIFF"
            return image.size if turned else (image.height, image.width)
    except Exception as error:
        raise _unreadable(path, error) from error


def _unreadable(path: str, error: Exception) -> DataError:
    reason = str(error) or type(error).__name__
    return DataError(f"{path} can't be read as an image: {reason}")
