"""Tight boxes around binary masks.

Shape letters: N masks; h w the masks' size; L cells along one axis.
"""

from __future__ import annotations

import torch
from torch import Tensor


def masks_to_boxes(masks: Tensor) -> Tensor:
    """The smallest box around each mask, as detectron2's `BitMasks.get_bounding_boxes`.

    Args:
        masks: bool [N, h, w], or uint8 of 0 and 1, as exported graphs need: a tracer can't write
            down that bools are looked at as bytes.

    Returns:
        float32 [N, 4], x0, y0, x1, y1 in pixels of the masks, x1 and y1 exclusive; zeros for a
        mask without pixels.
    """
    if not masks.numel():
        return torch.zeros((len(masks), 4), device=masks.device)
    # On a CPU the greatest of some bytes is found many times as fast as whether any bool is true.
    octets = masks.view(torch.uint8) if masks.dtype == torch.bool else masks
    x0, x1 = _extents(octets.amax(dim=1))
    y0, y1 = _extents(octets.amax(dim=2))
    return torch.stack([x0, y0, x1, y1], dim=1).float()


def _extents(occupied: Tensor) -> tuple[Tensor, Tensor]:
    """First occupied cell of uint8 [N, L], and the one after the last; 0 and 0 without any."""
    # Of equal values the first counts: 0 where all cells are empty.
    after = occupied.flip(1).argmax(dim=1)
    return occupied.argmax(dim=1), (occupied.shape[1] - after) * occupied.amax(dim=1)
