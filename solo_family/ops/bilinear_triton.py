"""Interpolate bilinearly between pixel centres in two steps, inside Triton kernels.

The first step leads from the network's masks to its input, of which the image is kept, and the
second to the output; a step that keeps the size interpolates nothing.
"""

import triton
import triton.language as tl


@triton.jit
def span(first, last, scale, size, resizes):
    """Return the first and the last cell of the source that a row of cells is interpolated from."""
    start, _, _ = _neighbours(first, scale, size, resizes)
    _, stop, _ = _neighbours(last, scale, size, resizes)
    return start, stop


@triton.jit
def _neighbours(place, scale, size, resizes):
    """Return the two cells whose centres enclose a place, and how far it lies between them."""
    source = tl.maximum((place.to(tl.float32) + 0.5) * scale - 0.5, 0.0)
    first = tl.minimum(source.to(tl.int32), size - 1)
    return first, tl.minimum(first + resizes, size - 1), source - first.to(tl.float32)


@triton.jit
def resized(
    soft,
    row_stride,
    y,
    x,
    to_image_y,
    to_image_x,
    image_height,
    image_width,
    resizes_image,
    to_mask_y,
    to_mask_x,
    mask_height,
    mask_width,
    resizes_mask,
):
    """Return the second step's value at pixels of the output, float32 [rows, columns]."""
    top, bottom, down = _neighbours(y, to_image_y, image_height, resizes_image)
    left, right, across = _neighbours(x, to_image_x, image_width, resizes_image)
    left, next_left, across_left = _neighbours(left, to_mask_x, mask_width, resizes_mask)
    right, next_right, across_right = _neighbours(right, to_mask_x, mask_width, resizes_mask)
    top, next_top, down_top = _neighbours(top, to_mask_y, mask_height, resizes_mask)
    bottom, next_bottom, down_bottom = _neighbours(bottom, to_mask_y, mask_height, resizes_mask)
    a = soft + top.to(tl.int64)[:, None] * row_stride
    b = soft + next_top.to(tl.int64)[:, None] * row_stride
    upper_left = _sample(a, b, left, next_left, down_top, across_left, resizes_mask)
    upper_right = _sample(a, b, right, next_right, down_top, across_right, resizes_mask)
    upper = _mix(upper_left, upper_right, across[None, :], resizes_image)
    a = soft + bottom.to(tl.int64)[:, None] * row_stride
    b = soft + next_bottom.to(tl.int64)[:, None] * row_stride
    lower_left = _sample(a, b, left, next_left, down_bottom, across_left, resizes_mask)
    lower_right = _sample(a, b, right, next_right, down_bottom, across_right, resizes_mask)
    lower = _mix(lower_left, lower_right, across[None, :], resizes_image)
    return _mix(upper, lower, down[:, None], resizes_image)


@triton.jit
def _sample(upper_row, lower_row, left, right, down, across, resizes):
    """Return the first step's value at pixels of the network's input, float32 [rows, columns]."""
    a = tl.load(upper_row + left[None, :]).to(tl.float32)
    b = tl.load(upper_row + right[None, :]).to(tl.float32)
    upper = _mix(a, b, across[None, :], resizes)
    a = tl.load(lower_row + left[None, :]).to(tl.float32)
    b = tl.load(lower_row + right[None, :]).to(tl.float32)
    return _mix(upper, _mix(a, b, across[None, :], resizes), down[:, None], resizes)


@triton.jit
def _mix(a, b, share, resizes):
    # What isn't resized is copied: infinity times a weight of 0 would be NaN.
    return tl.where(resizes != 0, a * (1 - share) + b * share, a)
