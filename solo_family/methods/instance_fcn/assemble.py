"""Assemble masks from score maps, as InstanceFCN's instance assembling module does.

InstanceFCN, arXiv 1603.08678, "From FCN to InstanceFCN".

N windows; k positions along each axis; m side of a window, in cells; H W cells of the map; R rows
of it.
"""

from __future__ import annotations

import math
from itertools import pairwise, product
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

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
    k = _positions(score_maps, window_size)
    size = (height, width) if map_size is None else map_size
    cells, inside = window_cells(centers, window_size, size, width)
    bins = bins_of_cells(k, window_size, score_maps.device)
    maps = bins[:, None] * k + bins
    index = maps * (height * width) + cells
    index, cells = index.flatten(-3), score_maps.flatten(-3)
    logits = cells.index_select(0, index) if index.dim() == 1 else take_rows(cells, index)
    return AssembledMasks(logits.unflatten(-1, inside.shape[-3:]), inside)


def soft_masks(
    score_maps: Tensor, centers: Tensor, window_size: int, map_size: MapSize | None = None
) -> Tensor:
    """Assemble masks as probabilities, float32 [..., N, m, m], 0 outside the map."""
    masks = assemble(score_maps, centers, window_size, map_size)
    return masks.logits.float().sigmoid() * masks.inside


def soft_masks_of_rows(score_maps: Tensor, window_size: int, rows: range | None = None) -> Tensor:
    """Return `soft_masks` of every cell's window in some rows of the map: dense sliding.

    Each bin of all windows is one copy of its shifted map, whose probabilities are computed before
    copying, and so only once.

    Args:
        score_maps: floating-point [k^2, H, W].
        window_size: m.
        rows: R consecutive rows; None for all.

    Returns:
        float32 [R, W, m, m], the windows in the order of `every_center`. In memory a cell of all
        windows is followed by the next cell of all windows.

    Raises:
        ValueError: see `assemble`.
    """
    k = _positions(score_maps, window_size)
    height, width = score_maps.shape[-2:]
    rows = range(height) if rows is None else rows
    before = window_size // 2
    after = window_size - 1 - before
    top, bottom = rows.start - before, rows.stop + after
    probabilities = score_maps[:, max(top, 0) : min(bottom, height)].float().sigmoid()
    border = (before, after, max(-top, 0), max(bottom - height, 0))
    # [k^2, m, m, R, W], of which a bin needs one map and some of the cells.
    shifted = F.pad(probabilities, border).unfold(1, len(rows), 1).unfold(2, width, 1)
    gather = _gather_bins if shifted.device.type == "cuda" else _copy_bins
    return gather(shifted, k).permute(2, 3, 0, 1)


def _copy_bins(shifted: Tensor, k: int) -> Tensor:
    """Return each cell from its bin's map, [m, m, R, W] of [k^2, m, m, R, W], in k^2 copies."""
    window_size = shifted.shape[1]
    masks = shifted.new_empty(shifted.shape[1:])
    edges = [(2 * window_size * i + k) // (2 * k) for i in range(k + 1)]
    bins = [slice(start, stop) for start, stop in pairwise(edges)]
    for index, (u, v) in enumerate(product(bins, bins)):
        masks[u, v] = shifted[index, u, v]
    return masks


def _gather_bins(shifted: Tensor, k: int) -> Tensor:
    """Return the result of `_copy_bins` in one launch; a GPU should have few launches."""
    m = shifted.shape[1]
    bins = bins_of_cells(k, m, shifted.device)
    cells = torch.arange(m, device=shifted.device)
    return shifted[bins[:, None] * k + bins, cells[:, None], cells]


def _positions(score_maps: Tensor, window_size: int) -> int:
    count = score_maps.shape[-3]
    k = math.isqrt(count)
    if k * k != count or k > window_size:
        raise ValueError(
            f"score maps must be k^2 with k at most the window's {window_size} cells, "
            f"but there are {count}"
        )
    return k


def bins_of_cells(k: int, window_size: int, device: torch.device | None = None) -> Tensor:
    """Return the bin, 0 to k - 1, of each of m cells along one axis: int64 [m].

    Bin i reaches from round(i m / k) to round((i + 1) m / k), halves rounded up.
    """
    starts = _bin_starts(k, window_size, device)
    return (torch.arange(window_size, device=device)[:, None] >= starts).sum(dim=1) - 1


def _bin_starts(k: int, window_size: int, device: torch.device | None = None) -> Tensor:
    return (2 * window_size * torch.arange(k, device=device) + k) // (2 * k)


def window_cells(
    centers: Tensor, window_size: int, map_size: MapSize, row_length: int | None = None
) -> tuple[Tensor, Tensor]:
    """Return which cells of a map each window covers.

    Args:
        centers: int64 [..., N, 2], as for `assemble`.
        window_size: m.
        map_size: (H, W), as for `assemble`.
        row_length: cells from one row to the next; None for W.

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
