"""Runs of equal pixels in binary masks, down the columns as COCO counts them.

Shape letters: N masks; n of them; H W the masks' size; h w of a window; C changes of all masks;
R runs of all masks, C + N.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from solo_family.ops.mask_boxes import masks_to_boxes

# Bytes beside the masks that are in memory at a time, of about three for a pixel.
_CHUNK_BYTES = 48 * 2**20


def run_lengths(masks: Tensor) -> tuple[Tensor, Tensor]:
    """The lengths of the runs of 0, 1, 0, 1, ... of each mask, whose columns follow each other.

    Where runs begin is found on the masks' device, so that from a GPU nothing else travels.

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
    find = _changes_in_boxes if masks.is_cpu else _changes
    found = [find(chunk) + number * step * (pixels + 1) for number, chunk in enumerate(chunks)]
    changes = torch.cat([torch.empty(0, dtype=torch.int64, device=masks.device), *found]).cpu()
    # Each mask's pixels are followed by one place for its end; before the first one is 0's end.
    ends = torch.arange(count + 1) * (pixels + 1) - 1
    ends[0] = 0
    every = torch.cat([changes, ends[1:]]).sort().values
    lengths = every.diff(prepend=ends[:1])
    positions = torch.searchsorted(every, ends[1:])
    lengths[positions[:-1] + 1] -= 1  # from the place of an end to the next mask's first pixel
    return lengths, positions.diff(prepend=torch.tensor([-1]))


def _changes(masks: Tensor) -> Tensor:
    """Where a pixel differs from the one before, and the first from 0.

    Returns:
        int64 [C], ascending: pixel p of mask n is n * (H * W + 1) + p.
    """
    columns = masks.transpose(1, 2).flatten(1)
    # What ends a mask is like its last pixel.
    changed = F.pad(columns[:, :-1] ^ columns[:, 1:], (0, 1))
    changed = torch.cat([columns[:, :1], changed], dim=1)
    return changed.flatten().nonzero()[:, 0]


def _changes_in_boxes(masks: Tensor) -> Tensor:
    """`_changes` of masks on a CPU, where only their boxes are looked at."""
    size = masks.shape[1] * masks.shape[2] + 1
    boxes = masks_to_boxes(masks).long().tolist()
    found = [
        _changes_in_box(mask, box) + n * size for n, (mask, box) in enumerate(zip(masks, boxes))
    ]
    return torch.cat(found)


def _changes_in_box(mask: Tensor, box: list[int]) -> Tensor:
    """Where bool [H, W] changes, whose pixels are all within x0, y0, x1, y1."""
    height, width = mask.shape
    x0, y0, x1, y1 = box
    # Below a window that is less high than the mask every column ends with a 0.
    window = F.pad(mask[y0:y1, x0:x1].t(), (0, int(y1 - y0 < height)))
    pixels = F.pad(window.flatten(), (1, 1)).numpy()
    places = torch.from_numpy((pixels[1:] != pixels[:-1]).nonzero()[0])
    column, row = places // max(1, window.shape[1]), places % max(1, window.shape[1])
    places = (x0 + column) * height + y0 + row
    return places[: len(places) - int(len(places) > 0 and bool(places[-1] == height * width))]
