"""Paste small masks into boxes of an image, as detectron2's `paste_masks_in_image`, for a GPU.

N masks, m their side; H W of the image; h w of the part of it that a mask reaches.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from . import gpu_kernels
from .masks import mask_boxes

# Bytes in memory at a time, beside the result; and bytes per pixel: its sampling position, the
# sampled value, and whether that is inside.
_CHUNK_BYTES = 256 * 2**20
_PIXEL_BYTES = 16


def paste_masks_with_boxes(
    masks: Tensor, boxes: Tensor, size: tuple[int, int], threshold: float, longest: float
) -> tuple[Tensor, Tensor]:
    """Paste each mask into its box, bilinearly, and threshold the result; on a GPU in one kernel.

    Args:
        masks: float32 [N, m, m], probabilities.
        boxes: float32 [N, 4], x0, y0, x1, y1 in pixels of the image; they may reach beyond it.
        size: (H, W).
        threshold: positive; a pixel is inside where its value is at least this. Where no mask
            reaches, the value is 0.
        longest: no side of a box is longer.

    Returns:
        masks: bool [N, H, W].
        boxes: float32 [N, 4], tight around them; see `mask_boxes`.

    Raises:
        ValueError: masks or boxes are not such, or the threshold isn't positive.
    """
    if masks.ndim != 3 or masks.shape[1] != masks.shape[2] or boxes.shape != (len(masks), 4):
        raise ValueError(
            "masks must be [N, m, m] and boxes [N, 4], but have the shapes "
            f"{tuple(masks.shape)} and {tuple(boxes.shape)}"
        )
    if masks.dtype != torch.float32 or boxes.dtype != torch.float32 or threshold <= 0:
        raise ValueError(
            "masks and boxes must be float32, and the threshold positive, but they are "
            f"{masks.dtype}, {boxes.dtype} and {threshold}"
        )
    if gpu_kernels.runs("paste", masks):
        # Not every machine has Triton.
        from .paste_masks_triton import paste_masks_triton

        return paste_masks_triton(masks, boxes, size, threshold)
    pasted = paste_parts(masks, boxes, size, threshold, longest)
    return pasted, mask_boxes(pasted)


def paste_parts(
    masks: Tensor, boxes: Tensor, size: tuple[int, int], threshold: float, longest: float
) -> Tensor:
    """Return the masks of `paste_masks_with_boxes`, in torch, of the parts that a mask reaches.

    All parts have one size, which the host knows, so that it does not wait. Every pixel is computed
    as detectron2 does on a GPU, where it samples the whole image for every mask.

    Args:
        masks: see `paste_masks_with_boxes`.
        boxes: see `paste_masks_with_boxes`.
        size: see `paste_masks_with_boxes`.
        threshold: see `paste_masks_with_boxes`.
        longest: see `paste_masks_with_boxes`.

    Returns:
        bool [N, H, W].
    """
    result = masks.new_zeros((len(masks), *size), dtype=torch.bool)
    if not result.numel():
        return result
    # Bilinear values reach half a cell beyond the box; one pixel is added for that, and one for
    # rounding.
    reach = longest / masks.shape[-1] / 2 + 1
    part = [min(side, math.ceil(longest + 2 * reach) + 1) for side in size]
    at_once = max(1, _CHUNK_BYTES // (_PIXEL_BYTES * part[0] * part[1]))
    numbers = torch.arange(len(masks), device=masks.device)
    for start in range(0, len(masks), at_once):
        chunk = slice(start, start + at_once)
        x0, y0, x1, y1 = boxes[chunk].split(1, dim=1)
        rows, v = _samples(y0, y1, reach, part[0], size[0])
        columns, u = _samples(x0, x1, reach, part[1], size[1])
        grid = torch.stack(torch.broadcast_tensors(u[:, None, :], v[:, :, None]), dim=3)
        values = F.grid_sample(masks[chunk, None], grid, align_corners=False)[:, 0]
        where = numbers[chunk, None, None], rows[:, :, None], columns[:, None, :]
        result[where] = values >= threshold
    return result


def _samples(
    start: Tensor, stop: Tensor, reach: float, length: int, side: int
) -> tuple[Tensor, Tensor]:
    """Return the pixels along one axis that a mask may reach, and where they sample the mask.

    Args:
        start: float32 [N, 1], where the boxes begin.
        stop: float32 [N, 1], where the boxes end.
        reach: beyond the boxes.
        length: number of pixels.
        side: the side of the image.

    Returns:
        pixels: int64 [N, length], all inside the image.
        places: float32 [N, length], -1 to 1 within the box.
    """
    first = (start - reach).floor().clamp(0, side - length)
    pixels = first + torch.arange(length, device=start.device)
    return pixels.long(), (pixels + 0.5 - start) / (stop - start) * 2 - 1
