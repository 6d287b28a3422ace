"""Two bilinear steps, threshold and boxes in one Triton kernel: no resized soft mask in memory.

Shape letters: N masks; h w of the soft masks; H W of the output.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

# Pixels of one program; its rows are long, so that writes are.
_BLOCK_HEIGHT = 8
_BLOCK_WIDTH = 128

Size = tuple[int, int]


def resize_masks_triton(
    masks: Tensor, padded_size: Size, image_size: Size, output_size: Size, threshold: float
) -> tuple[Tensor, Tensor]:
    """`resize_masks_with_boxes`, whose arguments and results these are."""
    (height, width), (bottom, right) = output_size, masks.shape[1:]
    result = torch.empty((len(masks), height, width), dtype=torch.bool, device=masks.device)
    # Each mask's x0, y0, x1, y1; without pixels they stay the wrong way round.
    corners = torch.zeros((len(masks), 4), dtype=torch.int32, device=masks.device)
    corners[:, 0], corners[:, 1] = width, height
    blocks = triton.cdiv(height, _BLOCK_HEIGHT), triton.cdiv(width, _BLOCK_WIDTH)
    if result.numel():
        with torch.cuda.device_of(masks):
            _resize_kernel[(len(masks), *blocks)](
                masks.contiguous(),
                result.view(torch.uint8),
                corners,
                threshold,
                bottom,
                right,
                *image_size,
                *output_size,
                bottom / padded_size[0],
                right / padded_size[1],
                image_size[0] / height,
                image_size[1] / width,
                HEIGHT=_BLOCK_HEIGHT,
                WIDTH=_BLOCK_WIDTH,
            )
    return result, torch.where(corners[:, 2:3] > 0, corners, 0).float()


@triton.jit
def _resize_kernel(
    masks,
    result,
    corners,
    threshold,
    mask_height,
    mask_width,
    image_height,
    image_width,
    height,
    width,
    to_mask_y,
    to_mask_x,
    to_image_y,
    to_image_x,
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
):
    mask = tl.program_id(0).to(tl.int64)
    y = tl.program_id(1) * HEIGHT + tl.arange(0, HEIGHT)
    x = tl.program_id(2) * WIDTH + tl.arange(0, WIDTH)
    top, bottom, down = _neighbours(y, to_image_y, image_height)
    left, right, across = _neighbours(x, to_image_x, image_width)
    soft = masks + mask * mask_height * mask_width
    upper_left = _sample(soft, top, left, to_mask_y, to_mask_x, mask_height, mask_width)
    upper_right = _sample(soft, top, right, to_mask_y, to_mask_x, mask_height, mask_width)
    lower_left = _sample(soft, bottom, left, to_mask_y, to_mask_x, mask_height, mask_width)
    lower_right = _sample(soft, bottom, right, to_mask_y, to_mask_x, mask_height, mask_width)
    upper = upper_left * (1 - across)[None, :] + upper_right * across[None, :]
    lower = lower_left * (1 - across)[None, :] + lower_right * across[None, :]
    value = upper * (1 - down)[:, None] + lower * down[:, None]
    exists = (y < height)[:, None] & (x < width)[None, :]
    inside = (value > threshold) & exists
    pixel = y.to(tl.int64)[:, None] * width + x[None, :]
    tl.store(result + mask * height * width + pixel, inside.to(tl.uint8), mask=exists)
    rows, columns = tl.max(inside.to(tl.int32), axis=1), tl.max(inside.to(tl.int32), axis=0)
    if tl.max(rows, axis=0) > 0:
        corner = corners + mask * 4
        tl.atomic_min(corner, tl.min(tl.where(columns > 0, x, width), axis=0), sem="relaxed")
        tl.atomic_min(corner + 1, tl.min(tl.where(rows > 0, y, height), axis=0), sem="relaxed")
        tl.atomic_max(corner + 2, tl.max(tl.where(columns > 0, x + 1, 0), axis=0), sem="relaxed")
        tl.atomic_max(corner + 3, tl.max(tl.where(rows > 0, y + 1, 0), axis=0), sem="relaxed")


@triton.jit
def _neighbours(place, scale, size):
    """The two cells of the source between whose centres a cell's centre is, and how far along."""
    source = tl.maximum((place.to(tl.float32) + 0.5) * scale - 0.5, 0.0)
    first = tl.minimum(source.to(tl.int32), size - 1)
    return first, tl.minimum(first + 1, size - 1), source - first.to(tl.float32)


@triton.jit
def _sample(soft, y, x, scale_y, scale_x, height, width):
    """The first step's value at pixels of the network's input, float32 [rows, columns]."""
    top, bottom, down = _neighbours(y, scale_y, height)
    left, right, across = _neighbours(x, scale_x, width)
    upper = _lerp(soft + top[:, None] * width, left, right, across)
    lower = _lerp(soft + bottom[:, None] * width, left, right, across)
    return upper * (1 - down)[:, None] + lower * down[:, None]


@triton.jit
def _lerp(row, left, right, across):
    a = tl.load(row + left[None, :]).to(tl.float32)
    b = tl.load(row + right[None, :]).to(tl.float32)
    return a * (1 - across)[None, :] + b * across[None, :]
