"""Assemble masks from score maps, as InstanceFCN's instance assembling module does.

InstanceFCN, arXiv 1603.08678, "From FCN to InstanceFCN".

N windows; k positions along each axis; m side of a window, in cells; H W cells of the map.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...ops.host_copy import to_device
from ...ops.sliding import bins_of_cells, positions_of
from ...ops.take import take_rows

# Height and width of a map, in cells; tensors while a graph is exported.
MapSize = tuple[int, int] | tuple[Tensor, Tensor]


class AssembledMasks(NamedTuple):
    """The masks of windows.

    Attributes:
        logits: [..., N, m, m] in the maps' dtype. A cell outside the map has the logit of the
            nearest cell inside, from the map of its own bin, so that masks can be upsampled up to
            the border.
        inside: bool [..., N, m, m], whether the cell is on the map. Cells outside the map belong
            neither to the mask nor to a loss.
    """

    logits: Tensor
    inside: Tensor


def assemble(
    score_maps: Tensor, centers: Tensor, window_size: int, map_size: MapSize | None = None
) -> AssembledMasks:
    """Copy each window's mask from the k^2 score maps: bin (i, j) of the window from map i k + j.

    The bins divide the window into k x k parts; where k does not divide m, their edges are rounded.
    The operation has no parameters, and is differentiable in `score_maps`.

    Args:
        score_maps: floating-point [k^2, H, W], or [B, k^2, H, W] of a batch.
        centers: int64 [N, 2], row and column of each window's central cell: cell m // 2 of the
            window, counted from 0. Windows may reach beyond the border of the map. Of a batch they
            are [B, N, 2], or [1, N, 2] if all images have the same ones.
        window_size: m.
        map_size: the height and width, from the top left, that count as the map; None for all. Of a
            batch, int64 [B, 1, 1].

    Raises:
        ValueError: the number of maps is not a square, or there are more bins than cells.
    """
    height, width = score_maps.shape[-2:]
    size = (height, width) if map_size is None else map_size
    cells, inside = window_cells(centers, window_size, size, width)
    return AssembledMasks(gather_cells([score_maps], cells, window_size), inside)


def gather_cells(score_maps: Sequence[Tensor], cells: Tensor, window_size: int) -> Tensor:
    """Copy the cells of windows from score maps, each from the map of its bin.

    Args:
        score_maps: those of every scale, as for `assemble`.
        cells: int64 [..., N, m, m], their number among the cells of all scales, one scale's after
            another's; see `cells_of_scales`.
        window_size: m.

    Returns:
        The logits of `AssembledMasks`.

    Raises:
        ValueError: see `assemble`.
    """
    k = positions_of(score_maps[0], window_size)
    flat = [maps.flatten(-2) for maps in score_maps]
    maps = flat[0] if len(flat) == 1 else torch.cat(flat, dim=-1)
    bins = bins_of_cells(k, window_size, cells.device)
    index = ((bins[:, None] * k + bins) * maps.shape[-1] + cells).flatten(-3)
    values = maps.flatten(-2)
    logits = values.index_select(0, index) if index.dim() == 1 else take_rows(values, index)
    return logits.unflatten(-1, cells.shape[-3:])


def cells_of_scales(
    sizes: Sequence[tuple[int, ...]], centers: Tensor, scales: Tensor, window_size: int
) -> tuple[Tensor, Tensor]:
    """Return which cells windows cover on the maps of several scales, without making the host wait.

    Args:
        sizes: (H, W) of the map of each scale.
        centers: int64 [N, 2], as for `assemble`.
        scales: int64 [N], the index of each window's map.
        window_size: m.

    Returns:
        cells: int64 [N, m, m], see `gather_cells`; for those outside the map, the nearest inside.
        inside: bool [N, m, m], whether they are on the map.
    """
    ends = list(accumulate(height * width for height, width in sizes))
    rows = [(*size, start) for size, start in zip(sizes, [0, *ends])]
    table = torch.from_numpy(np.array(rows))  # on the CPU, whatever torch's default device is
    (table,) = to_device([table], centers.device)
    height, width, start = table[scales][..., None].unbind(1)
    cells, inside = window_cells(centers, window_size, (height, width), width[..., None])
    return cells + start[..., None], inside


def soft_masks(
    score_maps: Tensor, centers: Tensor, window_size: int, map_size: MapSize | None = None
) -> Tensor:
    """Assemble masks as probabilities, float32 [..., N, m, m], 0 outside the map."""
    masks = assemble(score_maps, centers, window_size, map_size)
    return masks.logits.float().sigmoid() * masks.inside


def window_cells(
    centers: Tensor, window_size: int, map_size: MapSize, row_length: int | Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return which cells of a map each window covers.

    Args:
        centers: int64 [..., N, 2], as for `assemble`.
        window_size: m.
        map_size: (H, W), as for `assemble`; or int64 [N, 1] each.
        row_length: cells from one row to the next, maybe int64 [N, 1, 1]; None for W.

    Returns:
        cells: int64 [..., N, m, m], row * `row_length` + column; for those outside, the nearest
            inside.
        inside: bool [..., N, m, m].
    """
    height, width = map_size
    offsets = torch.arange(window_size, device=centers.device) - window_size // 2
    rows, columns = (centers[..., axis, None] + offsets for axis in (0, 1))
    step = width if row_length is None else row_length
    nearest_rows = rows.clamp(min=0).clamp(max=height - 1)
    nearest_columns = columns.clamp(min=0).clamp(max=width - 1)
    cells = nearest_rows[..., :, None] * step + nearest_columns[..., None, :]
    rows_inside, columns_inside = (rows >= 0) & (rows < height), (columns >= 0) & (columns < width)
    return cells, rows_inside[..., :, None] & columns_inside[..., None, :]


def every_center(map_size: tuple[int, int], device: torch.device | None = None) -> Tensor:
    """Return the centres of dense sliding windows, one for each cell: int64 [H W, 2]."""
    rows, columns = (torch.arange(side, device=device) for side in map_size)
    return torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=2).flatten(0, 1)
