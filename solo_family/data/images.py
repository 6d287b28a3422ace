"""Reads images of every kind that people have."""

import numpy as np
from detectron2.data.detection_utils import convert_PIL_to_numpy
from detectron2.utils.file_io import PathManager
from PIL import Image, ImageOps

from ..errors import DataError


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
        reason = str(error) or type(error).__name__
        raise DataError(f"{path} can't be read as an image: {reason}") from error
