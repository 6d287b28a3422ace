"""Upsample masks of windows into the image: detectron2's `paste_masks_in_image`, for a GPU.

N masks, m their side, H W of the image, h w of the part of it that a mask reaches.
"""

import math

import torch
import torch.nn.functional as F
from detectron2.layers import paste_masks_in_image
from torch import Tensor

from ...modeling import order
from ...ops import mask_boxes, pack_masks
from ...ops.run_masks import RunMasks, are_dense, collect_runs, mask_parts, pixels_of
from .assemble import assemble
from .paste_separably import paste_separably
from .windows import DenseMaps, Windows, in_pixels

Size = tuple[int, int]

# Bytes in memory at a time, beside the result; and bytes per pixel: its sampling position, the
# sampled value, and whether that is inside.
_CHUNK_BYTES = 256 * 2**20
_PIXEL_BYTES = 16


def paste_windows(
    windows: Windows,
    maps: list[DenseMaps],
    window_size: int,
    output_size: Size,
    threshold: float,
) -> tuple[Tensor | RunMasks, Tensor]:
    """Upsample the windows' masks, bilinearly as probabilities, and threshold the result.

    Args:
        windows: the windows of one image.
        maps: the network's outputs at every scale.
        window_size: m.
        output_size: (H, W) of the masks.
        threshold: see `paste_masks`.

    Returns:
        masks: bool [N, H, W], or runs; see `are_dense`.
        boxes: float32 [N, 4], tight around them, see `mask_boxes`.
    """
    soft, boxes, longest = _small_masks(windows, maps, window_size)
    if len(soft) and not order.waits(soft) and threshold > 0:
        return paste_separably(soft, boxes, output_size, threshold)

    def pasted(part: slice) -> Tensor:
        return paste_masks(soft[part], boxes[part], output_size, threshold, longest)

    if are_dense(len(soft), output_size, soft.device):
        masks = pasted(slice(None))
        return masks, mask_boxes(masks)
    parts = mask_parts(len(soft), output_size, len(soft))
    runs = collect_runs(pasted, parts, output_size)
    return runs, runs.boxes


def windows_for_nms(
    windows: Windows,
    maps: list[DenseMaps],
    window_size: int,
    output_size: Size,
    threshold: float,
    zoom: float,
) -> Tensor:
    """Return the masks of `paste_windows` in another size, in a form that matrix NMS takes.

    Args:
        windows: see `paste_windows`.
        maps: see `paste_windows`.
        window_size: m.
        output_size: (H, W) of the masks.
        threshold: see `paste_masks`.
        zoom: the masks' pixels per pixel of the output that `cell_size` refers to.

    Returns:
        bool [N, H, W]; on a CPU packed, int32 [N, W], since there may be many windows.
    """
    soft, boxes, longest = _small_masks(windows, maps, window_size, zoom)
    if order.waits(soft) or not len(soft):
        return paste_masks(soft, boxes, output_size, threshold, longest)

    def packed(part: slice) -> Tensor:
        given = soft[part], boxes[part], output_size, threshold
        masks = paste_separably(*given)[0] if threshold > 0 else paste_masks(*given, longest)
        return pack_masks(pixels_of(masks)).words

    return torch.cat([packed(part) for part in mask_parts(len(soft), output_size, len(soft))])


def _small_masks(
    windows: Windows, maps: list[DenseMaps], window_size: int, zoom: float = 1.0
) -> tuple[Tensor, Tensor, float]:
    """Return the windows' masks, float32 [N, m, m], their boxes, [N, 4], and the longest side."""
    m, centers = window_size, windows.centers
    corner = (centers - m // 2).flip(1)
    corners = torch.cat([corner, corner + m], dim=1)
    soft, boxes = corners.new_empty(0), corners.new_empty(0)
    for index, scale in enumerate(maps):
        # Cells outside the map repeat those at its border, so that masks reach up to it.
        its_soft = assemble(scale.score_maps, centers, m).logits.sigmoid()
        its_boxes = in_pixels(corners, scale.cell_size) * zoom
        if index:
            # For all windows at once, because the host would have to wait for sizes that depend on
            # their number.
            here = windows.scales == index
            its_soft = torch.where(here[:, None, None], its_soft, soft)
            its_boxes = torch.where(here[:, None], its_boxes, boxes)
        soft, boxes = its_soft, its_boxes
    return soft, boxes, max(side * m * zoom for scale in maps for side in scale.cell_size)


def paste_masks(
    masks: Tensor, boxes: Tensor, size: tuple[int, int], threshold: float, longest: float
) -> Tensor:
    """Paste each mask into its box, bilinearly, and threshold the result.

    Args:
        masks: float32 [N, m, m], probabilities.
        boxes: float32 [N, 4], x0, y0, x1, y1 in pixels of the image; they may reach beyond it.
        size: (H, W).
        threshold: a pixel is inside where its value is at least this.
        longest: no side of a box is longer.

    Returns:
        bool [N, H, W].
    """
    if not len(masks):
        return masks.new_zeros((0, *size), dtype=torch.bool)
    # Where no mask reaches, the value is 0. On a CPU detectron2 skips these pixels, too.
    if not order.waits(masks) or threshold <= 0:
        return paste_masks_in_image(masks, boxes, size, threshold)
    return paste_parts(masks, boxes, size, threshold, longest)


def paste_parts(
    masks: Tensor, boxes: Tensor, size: tuple[int, int], threshold: float, longest: float
) -> Tensor:
    """Return the result of `paste_masks`, computing only the part of the image that a mask reaches.

    All parts have one size, which the host knows, so that it does not wait. Every pixel is computed
    as detectron2 does on a GPU, where it samples the whole image for every mask.

    Args:
        masks: see `paste_masks`.
        boxes: see `paste_masks`.
        size: see `paste_masks`.
        threshold: see `paste_masks`.
        longest: see `paste_masks`.

    Returns:
        bool [N, H, W].
    """
    # Bilinear values reach half a cell beyond the box; one pixel is added for that, and one for
    # rounding.
    reach = longest / masks.shape[-1] / 2 + 1
    part = [min(side, math.ceil(longest + 2 * reach) + 1) for side in size]
    result = masks.new_zeros((len(masks), *size), dtype=torch.bool)
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
