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
    x0, x1 = _extents(octets.amax(dim=1) > 0)
    y0, y1 = _extents(octets.amax(dim=2) > 0)
    return torch.stack([x0, y0, x1, y1], dim=1).float()


def _extents(occupied: Tensor) -> tuple[Tensor, Tensor]:
    """First occupied cell of bool [N, L], and the one after the last; 0 and 0 without any."""
    before = _count_leading_empty(occupied)
    after = _count_leading_empty(occupied.flip(1))
    stop = occupied.shape[1] - after
    return torch.where(stop > 0, before, 0), stop


def _count_leading_empty(occupied: Tensor) -> Tensor:
    # Not of bools: ONNX adds up numbers only.
    return (occupied.long().cumsum(dim=1) == 0).sum(dim=1)
