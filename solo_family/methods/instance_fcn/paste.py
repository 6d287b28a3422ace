"""Upsample masks of windows into the image, as detectron2's `paste_masks_in_image` does.

N masks, m their side, H W of the image.
"""

import numpy as np
import torch
from detectron2.layers import paste_masks_in_image
from torch import Tensor

from ...modeling import order
from ...ops import mask_boxes, pack_masks
from ...ops.host_copy import to_device
from ...ops.paste_masks import paste_masks_with_boxes
from ...ops.run_masks import RunMasks, are_dense, collect_runs, mask_parts, pixels_of
from .assemble import cells_of_scales, gather_cells
from .paste_separably import paste_separably
from .windows import DenseMaps, Windows

Size = tuple[int, int]


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
        threshold: a pixel is inside where its value is at least this.

    Returns:
        masks: bool [N, H, W], or runs; see `are_dense`.
        boxes: float32 [N, 4], tight around them, see `mask_boxes`.
    """
    soft, boxes, longest = _small_masks(windows, maps, window_size)
    if threshold > 0 and order.waits(soft):
        return paste_masks_with_boxes(soft, boxes, output_size, threshold, longest)
    if threshold > 0 and len(soft):
        return paste_separably(soft, boxes, output_size, threshold)

    def pasted(part: slice) -> Tensor:
        return _pasted_everywhere(soft[part], boxes[part], output_size, threshold)

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
        threshold: see `paste_windows`.
        zoom: the masks' pixels per pixel of the output that `cell_size` refers to.

    Returns:
        bool [N, H, W]; on a CPU packed, int32 [N, W], since there may be many windows.
    """
    soft, boxes, longest = _small_masks(windows, maps, window_size, zoom)
    if threshold > 0 and order.waits(soft):
        return paste_masks_with_boxes(soft, boxes, output_size, threshold, longest)[0]
    if order.waits(soft) or not len(soft):
        return _pasted_everywhere(soft, boxes, output_size, threshold)

    def packed(part: slice) -> Tensor:
        given = soft[part], boxes[part], output_size, threshold
        masks = paste_separably(*given)[0] if threshold > 0 else _pasted_everywhere(*given)
        return pack_masks(pixels_of(masks)).words

    return torch.cat([packed(part) for part in mask_parts(len(soft), output_size, len(soft))])


def _small_masks(
    windows: Windows, maps: list[DenseMaps], window_size: int, zoom: float = 1.0
) -> tuple[Tensor, Tensor, float]:
    """Return the windows' masks, float32 [N, m, m], their boxes, [N, 4], and the longest side."""
    m = window_size
    sizes = [tuple(scale.score_maps.shape[-2:]) for scale in maps]
    cells, _ = cells_of_scales(sizes, windows.centers, windows.scales, m)
    # Cells outside the map repeat those at its border, so that masks reach up to it.
    soft = gather_cells([scale.score_maps for scale in maps], cells, m).sigmoid()
    corner = (windows.centers - m // 2).flip(1)
    corners = torch.cat([corner, corner + m], dim=1).float()
    # Of each window in pixels of the output, (width, height) twice.
    sides = [scale.cell_size[::-1] * 2 for scale in maps]
    cell = torch.from_numpy(np.array(sides, np.float32))  # on the CPU, whatever torch's default is
    (cell,) = to_device([cell], corners.device)
    boxes = corners * cell[windows.scales] * zoom
    return soft, boxes, max(side * m * zoom for scale in maps for side in scale.cell_size)


def _pasted_everywhere(masks: Tensor, boxes: Tensor, size: Size, threshold: float) -> Tensor:
    """Paste masks, bool [N, H, W], of which there may be none, with a threshold of 0 or less."""
    if not len(masks):
        return masks.new_zeros((0, *size), dtype=torch.bool)
    return paste_masks_in_image(masks, boxes, size, threshold)
