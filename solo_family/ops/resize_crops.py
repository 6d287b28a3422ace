"""Resize masks on a CPU, each only where it can have pixels.

An output pixel is a mean of inputs with weights of 0 and more: it is above the threshold only if an
input that it depends on is. So a mask is resized within the outputs that its inputs above the
threshold reach, as two small matrix products; see `resize_rows`.

N masks; n of them; h w of the network's masks; H W of the output.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .crops import Crop
from .resize_rows import resized_rows, resizing_matrix
from .run_masks import mask_parts
from .window import Window

Size = tuple[int, int]

# The number of masks that are resized row by row together.
MASKS_AT_ONCE = 128
# Masks that reach a greater share of the output are resized row by row.
_MOST_REACHED = 0.5
# Masks of which a greater share of all pixels is inside are resized row by row, all of them.
_MOST_INSIDE = 0.2


def are_mostly_small(masks: Tensor, threshold: float) -> bool:
    """Return whether few pixels of masks are above the threshold, so that `resized_crops` is fast.

    Of others it is slower than resizing all of them row by row, with the same result.
    """
    return int(masks.gt(threshold).count_nonzero()) <= _MOST_INSIDE * masks.numel()


class _Axis(NamedTuple):
    """The resizing of one axis.

    Attributes:
        weights: float32 [outputs, inputs].
        first_input, stop_input: int64 [outputs], the inputs that an output depends on.
        first_output, stop_output: int64 [inputs], the outputs that an input, or one after it, first
            reaches, and the one after those that an input, or one before it, reaches.
    """

    weights: np.ndarray
    first_input: np.ndarray
    stop_input: np.ndarray
    first_output: np.ndarray
    stop_output: np.ndarray

    def reach(self, starts: np.ndarray, stops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the outputs, from and to, that inputs, from and to, reach; no inputs, none."""
        firsts = self.first_output[np.minimum(starts, len(self.first_output) - 1)]
        ends = self.stop_output[np.maximum(stops - 1, 0)]
        return firsts, np.where(stops > starts, np.maximum(ends, firsts), firsts)


def resized_crops(
    masks: Tensor,
    padded_size: Size,
    image_size: Size,
    output_size: Size,
    threshold: float,
    resize: Callable,
) -> Iterator[Crop]:
    """Resize and threshold masks, each within a part of the output.

    Args:
        masks: floating-point [N, h, w] on a CPU.
        padded_size: (height, width) of the network's input.
        image_size: (height, width) of the image in it, without padding.
        output_size: (H, W).
        threshold: a pixel is set if its value is greater.
        resize: `resize_soft_masks`, whose thresholded results these are, up to rounding.
    """
    sizes = padded_size, image_size, output_size
    for part in mask_parts(len(masks), output_size, MASKS_AT_ONCE):
        yield from _crops(masks[part].detach().float(), sizes, threshold, resize)


def _crops(
    masks: Tensor, sizes: tuple[Size, Size, Size], threshold: float, resize: Callable
) -> list[Crop]:
    """Return a few masks, float32 [n, h, w]."""
    height, width = sizes[2]
    pixels, limit = masks.numpy(), np.float32(threshold)
    rows, columns = (
        _axis(size, *(side[axis] for side in sizes), resize)
        for axis, size in enumerate(masks.shape[1:])
    )
    inside = pixels > limit
    tops, bottoms = rows.reach(*_extents(np.any(inside, axis=2)))
    lefts, rights = columns.reach(*_extents(np.any(inside, axis=1)))
    large = (bottoms - tops) * (rights - lefts) > _MOST_REACHED * height * width
    if not masks.sum().isfinite():
        large[:] = True  # a product with 0 would spread what is not finite
    bounds = np.stack([tops, lefts, bottoms, rights], axis=1).tolist()
    of_large = iter(_whole(masks[torch.from_numpy(large)] - threshold, sizes, resize))
    whole = Window(0, 0, height, width)
    return [
        Crop(whole, next(of_large))
        if is_large
        else _resized(mask, Window(*bound), limit, rows, columns)
        for mask, bound, is_large in zip(pixels, bounds, large.tolist())
    ]


def _extents(occupied: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the first occupied place of each row, and the one after the last; 0 and 0 for none."""
    stops = occupied.shape[1] - occupied[:, ::-1].argmax(axis=1)
    return occupied.argmax(axis=1), np.where(occupied.any(axis=1), stops, 0)


def _resized(
    mask: np.ndarray, window: Window, threshold: np.float32, rows: _Axis, columns: _Axis
) -> Crop:
    """Return a mask, float32 [h, w], within a window of the output."""
    top, left, bottom, right = window
    if top == bottom or left == right:
        return Crop(window, np.zeros(window.size, bool))
    ys = slice(rows.first_input[top], rows.stop_input[bottom - 1])
    xs = slice(columns.first_input[left], columns.stop_input[right - 1])
    # Rounding can't move a value that equals the threshold when that is taken from the mask before.
    # Of such small products numpy, which calls BLAS as torch does, takes a fifth of the time.
    stretched = (mask[ys, xs] - threshold) @ columns.weights[left:right, xs].T
    return Crop(window, rows.weights[top:bottom, ys] @ stretched > 0)


def _whole(masks: Tensor, sizes: tuple[Size, Size, Size], resize: Callable) -> np.ndarray:
    """Return masks, thresholded at 0, in all of the output: bool [n, H, W]."""
    inside = torch.empty((len(masks), *sizes[2]), dtype=torch.bool, device=masks.device)
    for rows, block in resized_rows(masks, *sizes, resize):
        torch.gt(block, 0, out=inside[:, rows])
    return inside.numpy()


# A matrix has megabytes where the output is large.
@lru_cache(maxsize=16)
def _axis(size: int, padded: int, image: int, output: int, resize: Callable) -> _Axis:
    """Return the resizing of one axis."""
    weights = resizing_matrix(size, padded, image, output, resize).numpy()
    used = weights != 0
    first_input, stop_input = used.argmax(1), size - used[:, ::-1].argmax(1)
    reached = used.any(0)
    first_output = np.where(reached, used.argmax(0), output)
    stop_output = np.where(reached, output - used[::-1].argmax(0), 0)
    return _Axis(
        weights,
        first_input,
        stop_input,
        np.minimum.accumulate(first_output[::-1])[::-1],
        np.maximum.accumulate(stop_output),
    )
