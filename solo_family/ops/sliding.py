"""Slide windows densely over score maps, as InstanceFCN does (arXiv 1603.08678), in torch.

A window is centred at a cell: that is its cell m // 2, counted from 0.

k positions along each axis; m side of a window, in cells; H W cells of the map; R rows of it.
"""

from __future__ import annotations

import math
from itertools import pairwise, product

import torch
import torch.nn.functional as F
from torch import Tensor


def soft_masks_of_rows(score_maps: Tensor, window_size: int, rows: range | None = None) -> Tensor:
    """Assemble the mask of every cell's window in some rows of the map, as probabilities.

    Bin (i, j) of a window comes from map i k + j. Each bin of all windows is one copy of its
    shifted map, whose probabilities are computed before copying, and so only once.

    Args:
        score_maps: floating-point [k^2, H, W].
        window_size: m.
        rows: R consecutive rows; None for all.

    Returns:
        float32 [R, W, m, m], 0 outside the map, row by row. In memory a cell of all windows is
        followed by the next cell of all windows.

    Raises:
        ValueError: see `positions_of`.
    """
    k = positions_of(score_maps, window_size)
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


def positions_of(score_maps: Tensor, window_size: int) -> int:
    """Return k, the square root of the number of score maps [..., k^2, H, W].

    Raises:
        ValueError: the number of maps is not a square, or there are more bins than cells.
    """
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
