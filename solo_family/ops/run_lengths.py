"""Encode binary masks as runs of equal pixels, down the columns as COCO counts them.

N masks; H W the masks' size; C changes of all masks; R runs of all masks, C + N.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

# Bytes in memory at a time, beside the masks; a pixel needs about three.
_CHUNK_BYTES = 48 * 2**20
# Number of rows that are searched for pixels at a time.
_SEARCHED_ROWS = 32


def run_lengths(masks: Tensor) -> tuple[Tensor, Tensor]:
    """Return the lengths of each mask's runs of 0, 1, 0, 1, ..., down one column after another.

    The beginnings of runs are computed on the masks' device, so that only they are copied from a
    GPU.

    Args:
        masks: bool [N, H, W].

    Returns:
        lengths: int64 [R] on the CPU, of the first mask, then of the second, ...; the first one of
            a mask is 0 where its first pixel is set.
        counts: int64 [N] on the CPU, how many of them each mask has; at least 1.
    """
    count, pixels = len(masks), masks.shape[1] * masks.shape[2]
    step = max(1, _CHUNK_BYTES // max(1, 3 * pixels))
    chunks = masks.split(step) if count and pixels else ()
    find = _changes_in_rows if masks.is_cpu else _changes
    places = [find(chunk) + number * step * (pixels + 1) for number, chunk in enumerate(chunks)]
    changes = torch.cat([torch.empty(0, dtype=torch.int64, device=masks.device), *places]).cpu()
    # Each mask's pixels are followed by one place for its end, and the first mask's are preceded by
    # 0.
    ends = torch.arange(count + 1, device="cpu") * (pixels + 1) - 1
    ends[0] = 0
    every = torch.cat([changes, ends[1:]]).sort().values
    lengths = every.diff(prepend=ends[:1])
    positions = torch.searchsorted(every, ends[1:])
    lengths[positions[:-1] + 1] -= 1  # from the place of an end to the next mask's first pixel
    return lengths, positions.diff(prepend=torch.tensor([-1], device="cpu"))


def _changes(masks: Tensor) -> Tensor:
    """Return where a pixel differs from the one before it, and the first pixel from 0.

    Returns:
        int64 [C], in any order: pixel p of mask n is n * (H * W + 1) + p.
    """
    height, width = masks.shape[1:]
    # A column's first pixel follows the last one of the column to the left.
    before_first = F.pad(masks[:, -1:, :-1], (1, 0))
    changed = masks ^ torch.cat([before_first, masks[:, :-1]], dim=1)
    mask, row, column = changed.nonzero().unbind(1)
    return mask * (height * width + 1) + column * height + row


def _changes_in_rows(masks: Tensor) -> Tensor:
    """Compute `_changes` for masks on a CPU, reading only rows that have pixels."""
    size = masks.shape[1] * masks.shape[2] + 1
    every = masks.contiguous().numpy()
    return torch.from_numpy(
        np.concatenate([_changes_of_one(mask) + n * size for n, mask in enumerate(every)])
    )


def _changes_of_one(mask: np.ndarray) -> np.ndarray:
    height, width = mask.shape
    first, stop = _occupied_rows(mask)
    if first == stop:
        return np.empty(0, np.int64)
    columns = np.bitwise_or.reduce(mask[first:stop].view(np.uint8), axis=0).nonzero()[0]
    # One extra column, in which a run of the last column may end.
    left, right = int(columns[0]), min(int(columns[-1]) + 2, width)
    rows = np.zeros((stop - first + 2, right - left), bool)
    rows[1:-1] = mask[first:stop, left:right]
    if stop - first == height:
        # As in `_changes`; a last pixel that is set is followed by the next column's first.
        rows[0, 1:], rows[-1] = rows[-2, :-1], rows[-2]
    row, column = np.divmod((rows[1:] != rows[:-1]).reshape(-1).nonzero()[0], right - left)
    places = (column + left) * height + row + first
    # Nothing may follow the last column.
    return places[places < height * width]


def _occupied_rows(rows: np.ndarray) -> tuple[int, int]:
    """Return the first row with pixels, and the one after the last; 0 and 0 without any."""
    first = int(rows.reshape(-1).argmax()) // rows.shape[1]
    for stop in range(len(rows), first, -_SEARCHED_ROWS):
        occupied = rows[max(first, stop - _SEARCHED_ROWS) : stop]
        # Whether there is any pixel is computed many times as fast as where.
        if occupied.any():
            after = int(np.flip(occupied.any(axis=1)).argmax())
            return first, stop - after
    return 0, 0
