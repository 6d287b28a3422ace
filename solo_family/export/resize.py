"""Resize images bilinearly in numpy, as the data loader does with Pillow.

Where an image shrinks, Pillow averages over all pixels that a new pixel covers, which OpenCV's
bilinear interpolation does not. A model trained on images of the one sees different images with the
other.

H W of the image, h w of the result, T pixels that contribute to one.
"""

from collections.abc import Sequence

import numpy as np

# Pillow's fixed-point precision for 8-bit images.
_BITS = 22


def resize_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize a picture to exactly the result of `PIL.Image.resize` with BILINEAR.

    Columns are resized first, as in Pillow unless only the width grows, which does not occur where
    a resize keeps proportions.

    Args:
        image: uint8 [H, W, C].
        size: (h, w).

    Returns:
        uint8 [h, w, C].
    """
    columns_first = _resize_rows(image.swapaxes(0, 1), size[1]).swapaxes(0, 1)
    return np.ascontiguousarray(_resize_rows(columns_first, size[0]))


def resize_smoothly(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize without rounding, as torch's `interpolate` with `antialias` does.

    Args:
        image: float32 [H, W, C].
        size: (h, w).

    Returns:
        float32 [h, w, C].
    """
    for side in reversed(size):
        image = image.swapaxes(0, 1)
        index, weights = _taps(len(image), side)
        weights = weights.astype(np.float32)[:, :, None, None]
        image = sum(image[index[:, tap]] * weights[:, tap] for tap in range(index.shape[1]))
    return image


def shortest_edge_size(height: int, width: int, short_edge: int, max_size: int) -> tuple[int, int]:
    """Return the size that detectron2's `ResizeShortestEdge` resizes an image to.

    Args:
        height: the height of the image, in pixels.
        width: the width of the image, in pixels.
        short_edge: length of the shorter side afterwards; 0 keeps the size.
        max_size: the greatest length of the longer side.
    """
    if short_edge == 0:
        return height, width
    # In the order of detectron2's operations, because halves are rounded.
    scale = short_edge / min(height, width)
    edges = [
        float(short_edge) if side == min(height, width) else scale * side
        for side in (height, width)
    ]
    shrink = min(1.0, max_size / max(edges))
    new_height, new_width = (max(1, int(edge * shrink + 0.5)) for edge in edges)
    return new_height, new_width


def fitting_size(height: int, width: int, size: Sequence[int]) -> tuple[int, int]:
    """Return the greatest (h, w) with the proportions of an image that fits within a size.

    Args:
        height: the height of the image, in pixels.
        width: the width of the image, in pixels.
        size: the greatest height and width.
    """
    scale = min(size[0] / height, size[1] / width)
    new_height, new_width = (
        min(limit, max(1, int(side * scale + 0.5))) for side, limit in zip((height, width), size)
    )
    return new_height, new_width


def _resize_rows(image: np.ndarray, size: int) -> np.ndarray:
    if size == len(image):
        return image
    index, weights = _taps(len(image), size)
    fixed = np.floor(weights * (1 << _BITS) + 0.5).astype(np.int32)
    total = np.full((size, *image.shape[1:]), 1 << (_BITS - 1), np.int32)
    for tap in range(index.shape[1]):
        total += image[index[:, tap]] * fixed[:, tap, None, None]
    return (total >> _BITS).clip(0, 255).astype(np.uint8)


def _taps(old: int, new: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the pixels that contribute to each new one, and their weights.

    The weights form a triangle around the new pixel's centre.


    Returns:
        int [new, T] and float64 [new, T], whose rows sum to 1.
    """
    scale = old / new
    support = max(scale, 1.0)
    center = (np.arange(new)[:, None] + 0.5) * scale
    first = np.maximum((center - support + 0.5).astype(np.int64), 0)
    last = np.minimum((center + support + 0.5).astype(np.int64), old)
    index = first + np.arange(int((last - first).max()))
    weights = np.maximum(1 - np.abs(index - center + 0.5) / support, 0)
    weights[index >= last] = 0
    return index.clip(max=old - 1), weights / weights.sum(1, keepdims=True)
