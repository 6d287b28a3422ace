"""Box and measure the masks of densely sliding windows, of InstanceFCN (arXiv 1603.08678).

N = H W windows, one centred at each cell of the map; k positions along each axis; m side of a
window, in cells.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from . import gpu_kernels
from .masks import mask_boxes
from .packed_masks import measure_inside
from .sliding import positions_of, soft_masks_of_rows

# Bytes of assembled windows in memory at a time, whatever the size of the map; and bytes of one of
# their cells: its probability and whether it is inside.
_CHUNK_BYTES = 16 * 2**20
_GPU_CHUNK_BYTES = 256 * 2**20
_CELL_BYTES = 5


class WindowBoxes(NamedTuple):
    """The masks of the windows of a map, row by row.

    Attributes:
        boxes: float32 [N, 4], tight around the masks: x0, y0, x1, y1 in cells of the map, x1 and y1
            exclusive. That of an empty mask has no area.
        filled: bool [N], whether the mask has cells.
        maskness: float32 [N], the mean probability inside the mask, 0 for an empty one; None if it
            wasn't asked for.
    """

    boxes: Tensor
    filled: Tensor
    maskness: Tensor | None


def window_boxes(
    score_maps: Tensor, window_size: int, mask_threshold: float, *, maskness: bool = False
) -> WindowBoxes:
    """Assemble the mask of every cell's window, and box it; on a GPU no mask is in memory.

    Bin (i, j) of a window comes from map i k + j; see `soft_masks_of_rows`.

    Args:
        score_maps: logits, floating-point [k^2, H, W].
        window_size: m.
        mask_threshold: a cell is inside where its probability, computed in float32, is above this.
        maskness: whether to compute it.

    Raises:
        ValueError: score maps are not floating-point [k^2, H, W], or there are more bins than
            cells.
    """
    if score_maps.ndim != 3 or not score_maps.is_floating_point() or not score_maps.numel():
        raise ValueError(
            "score maps must be floating-point [k^2, H, W], each at least 1, but are "
            f"{score_maps.dtype} of the shape {tuple(score_maps.shape)}"
        )
    positions = positions_of(score_maps, window_size)
    height, width = score_maps.shape[1:]
    if gpu_kernels.runs("windows", score_maps):
        # Not every machine has Triton.
        from .window_boxes_triton import window_boxes_triton

        # Once for each cell of the map, and so to the bit as for assembled windows.
        probabilities = score_maps.float().sigmoid().contiguous()
        measured = window_boxes_triton(probabilities, positions, window_size, mask_threshold)
        areas = measured.areas
        mean = measured.totals / areas.clamp(min=1) if maskness else None
        return WindowBoxes(measured.boxes, areas > 0, mean)
    at_once = _GPU_CHUNK_BYTES if score_maps.device.type == "cuda" else _CHUNK_BYTES
    step = max(1, at_once // (_CELL_BYTES * width * window_size**2))
    chunks = [range(top, min(top + step, height)) for top in range(0, height, step)]
    parts = [
        window_boxes_of_rows(score_maps, window_size, mask_threshold, maskness, rows)
        for rows in chunks
    ]
    means = [part.maskness for part in parts if part.maskness is not None]
    return WindowBoxes(
        torch.cat([part.boxes for part in parts]),
        torch.cat([part.filled for part in parts]),
        torch.cat(means) if maskness else None,
    )


def window_boxes_of_rows(
    score_maps: Tensor, window_size: int, mask_threshold: float, maskness: bool, rows: range
) -> WindowBoxes:
    """Compute `window_boxes` of some rows' windows in torch, with all their masks in memory.

    Args:
        score_maps: see `window_boxes`.
        window_size: m.
        mask_threshold: see `window_boxes`.
        maskness: see `window_boxes`.
        rows: consecutive rows of the map.
    """
    width = score_maps.shape[2]
    soft = soft_masks_of_rows(score_maps, window_size, rows).flatten(0, 1)
    hard = soft > mask_threshold
    mean = measure_inside(soft, hard, mask_threshold)[1] if maskness else None
    boxes = mask_boxes(hard)
    # The box of a mask without cells ends at 0.
    filled = boxes[:, 2] > 0
    places = torch.arange(rows.start * width, rows.stop * width, device=boxes.device)
    column, row = places % width, places.div(width, rounding_mode="floor")
    corner = torch.stack([column, row], dim=1) - window_size // 2
    return WindowBoxes(boxes + corner.repeat(1, 2), filled, mean)
