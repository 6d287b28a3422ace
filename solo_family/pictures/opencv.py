"""Resize pictures with OpenCV, as mmdetection does."""

import cv2
import numpy as np


def resize_by_opencv(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize bilinearly, without averaging where the picture shrinks.

    Args:
        image: uint8 [H, W, C], of any number of channels up to OpenCV's 512.
        size: (h, w).

    Returns:
        uint8 [h, w, C].
    """
    resized = cv2.resize(
        np.ascontiguousarray(image), (size[1], size[0]), interpolation=cv2.INTER_LINEAR
    )
    # OpenCV drops a single channel.
    return resized.reshape(*size, *image.shape[2:])
