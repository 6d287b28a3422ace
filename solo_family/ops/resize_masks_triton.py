"""Resize, threshold and box masks in one Triton kernel: no resized soft mask is in memory.

Most of an image is well outside a mask, or well inside: a region isn't interpolated if the greatest
and the smallest of its source values already decide the result.

N masks; h w of the soft masks; H W of the output; R regions of a mask.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .bilinear_triton import resized, span
from .jit_triton import jit
from .join_boxes_triton import box_of_extents, join_boxes, store_box

# Pixels of one program, a region, and how many of its rows are interpolated at a time. Values of a
# soft mask that are read at a time.
_REGION_HEIGHT, _REGION_WIDTH = 32, 64
_ROWS = 4
_LOOK_HEIGHT, _LOOK_WIDTH = 8, 32

Size = tuple[int, int]


def resize_masks_triton(
    masks: Tensor, padded_size: Size, image_size: Size, output_size: Size, threshold: float
) -> tuple[Tensor, Tensor]:
    """Compute `resize_masks_with_boxes`, with the same arguments and results.

    Masks are copied only if the values of a row are not contiguous.
    """
    count, (height, width), mask_size = len(masks), output_size, tuple(masks.shape[1:])
    result = torch.empty((count, height, width), dtype=torch.bool, device=masks.device)
    if not result.numel():
        return result, torch.zeros((count, 4), device=masks.device)
    masks = masks if masks.stride(2) == 1 else masks.contiguous()
    across = triton.cdiv(width, _REGION_WIDTH)
    regions = triton.cdiv(height, _REGION_HEIGHT) * across
    corners = torch.empty((count, regions, 4), dtype=torch.int32, device=masks.device)
    # Triton launches on the current GPU, which may be a different one.
    with torch.cuda.device_of(masks):
        _resize_kernel[(count * regions,)](
            masks,
            result.view(torch.uint8),
            corners,
            threshold,
            masks.stride(0),
            masks.stride(1),
            *mask_size,
            *image_size,
            height,
            width,
            mask_size[0] / padded_size[0],
            mask_size[1] / padded_size[1],
            image_size[0] / height,
            image_size[1] / width,
            # As in `resize_bilinear`, what has its size already is not interpolated.
            int(mask_size != tuple(padded_size)),
            int(tuple(image_size) != tuple(output_size)),
            regions,
            across,
            REGION_HEIGHT=_REGION_HEIGHT,
            HEIGHT=_ROWS,
            WIDTH=_REGION_WIDTH,
            LOOK_HEIGHT=_LOOK_HEIGHT,
            LOOK_WIDTH=_LOOK_WIDTH,
        )
    return result, join_boxes(corners)


_SIZES = ("mask_stride", "row_stride", "mask_height", "mask_width", "image_height", "image_width")
_MORE_SIZES = ("height", "width", "resizes_mask", "resizes_image", "regions", "across")


@jit(do_not_specialize=(*_SIZES, *_MORE_SIZES), do_not_specialize_on_alignment=("masks", "result"))
def _resize_kernel(
    masks,
    result,
    corners,
    threshold: tl.float32,
    mask_stride: tl.int64,
    row_stride: tl.int64,
    mask_height: tl.int32,
    mask_width: tl.int32,
    image_height: tl.int32,
    image_width: tl.int32,
    height: tl.int32,
    width: tl.int32,
    to_mask_y: tl.float32,
    to_mask_x: tl.float32,
    to_image_y: tl.float32,
    to_image_x: tl.float32,
    resizes_mask: tl.int32,
    resizes_image: tl.int32,
    regions: tl.int32,
    across: tl.int32,
    REGION_HEIGHT: tl.constexpr,
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
    LOOK_HEIGHT: tl.constexpr,
    LOOK_WIDTH: tl.constexpr,
):
    region = tl.program_id(0) % regions
    mask = (tl.program_id(0) // regions).to(tl.int64)
    top, left = region // across * REGION_HEIGHT, region % across * WIDTH
    right, bottom = tl.minimum(left + WIDTH, width), tl.minimum(top + REGION_HEIGHT, height)
    x = left + tl.arange(0, WIDTH)
    soft, pixels = masks + mask * mask_stride, result + mask * height * width + x[None, :]
    image_left, image_right = span(left, right - 1, to_image_x, image_width, resizes_image)
    first_x, last_x = span(image_left, image_right, to_mask_x, mask_width, resizes_mask)
    image_top, image_bottom = span(top, bottom - 1, to_image_y, image_height, resizes_image)
    first_y, last_y = span(image_top, image_bottom, to_mask_y, mask_height, resizes_mask)
    greatest, least = _extremes(
        soft, row_stride, first_y, last_y, first_x, last_x, LOOK_HEIGHT, LOOK_WIDTH
    )
    full = _stays_inside(least, greatest, threshold)
    x0, y0 = tl.where(full, left, width), tl.where(full, top, height)
    x1, y1 = tl.where(full, right, 0), tl.where(full, bottom, 0)
    if full | _stays_outside(greatest, threshold):
        y = top + tl.arange(0, REGION_HEIGHT)
        exists = (y < bottom)[:, None] & (x < right)[None, :]
        value = tl.zeros((REGION_HEIGHT, WIDTH), dtype=tl.uint8) + full.to(tl.uint8)
        tl.store(pixels + y.to(tl.int64)[:, None] * width, value, mask=exists)
    else:
        first_row = tl.full((HEIGHT, WIDTH), 2**31 - 1, dtype=tl.int32)
        last_row = tl.full((HEIGHT, WIDTH), -1, dtype=tl.int32)
        for step in range(0, tl.cdiv(bottom - top, HEIGHT)):
            y = top + step * HEIGHT + tl.arange(0, HEIGHT)
            value = resized(
                soft, row_stride, y, x, to_image_y, to_image_x, image_height, image_width,
                resizes_image, to_mask_y, to_mask_x, mask_height, mask_width, resizes_mask,
            )  # fmt: skip
            exists = (y < bottom)[:, None] & (x < right)[None, :]
            inside = (value > threshold) & exists
            tl.store(pixels + y.to(tl.int64)[:, None] * width, inside.to(tl.uint8), mask=exists)
            first_row = tl.minimum(first_row, tl.where(inside, y[:, None], first_row))
            last_row = tl.maximum(last_row, tl.where(inside, y[:, None], last_row))
        x0, y0, x1, y1 = box_of_extents(first_row, last_row, x, width, height)
    store_box(corners + tl.program_id(0).to(tl.int64) * 4, x0, y0, x1, y1)


@triton.jit
def _extremes(
    soft,
    row_stride,
    first_y,
    last_y,
    first_x,
    last_x,
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """Return the greatest and the smallest value of a window, both ends included.

    NaN is ignored for the greatest, as it is never inside, and counts as the smallest.
    """
    greatest = tl.full((HEIGHT, WIDTH), float("-inf"), dtype=tl.float32)
    least = tl.full((HEIGHT, WIDTH), float("inf"), dtype=tl.float32)
    for top in range(first_y, last_y + 1, HEIGHT):
        # Reads beyond the window repeat its last value.
        y = tl.minimum(top + tl.arange(0, HEIGHT), last_y)
        rows = soft + y.to(tl.int64)[:, None] * row_stride
        for left in range(first_x, last_x + 1, WIDTH):
            x = tl.minimum(left + tl.arange(0, WIDTH), last_x)
            value = tl.load(rows + x[None, :]).to(tl.float32)
            value = tl.where(value == value, value, float("-inf"))
            greatest, least = tl.maximum(greatest, value), tl.minimum(least, value)
    return tl.max(tl.max(greatest, axis=1), axis=0), tl.min(tl.min(least, axis=1), axis=0)


# Interpolating four times causes 12 roundings of 2**-24 at most, relative to the value, so that no
# result is beyond these bounds.
_MARGIN = tl.constexpr(1e-6)


@triton.jit
def _stays_outside(greatest, threshold):
    return greatest + _MARGIN * tl.abs(greatest) <= threshold


@triton.jit
def _stays_inside(least, greatest, threshold):
    # Infinity times a weight of 0 is NaN.
    return (least - _MARGIN * tl.abs(least) > threshold) & (greatest < float("inf"))
