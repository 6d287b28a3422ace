"""Resize masks into bools, or into runs where bools would take too much memory.

N masks; n of them; h w of the network's masks; H W of the output.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from .crops import runs_of_crops
from .resize import Size, resize_masks_with_boxes, resize_soft_masks
from .resize_crops import MASKS_AT_ONCE, resized_crops
from .run_masks import RunMasks, are_dense, mask_parts


class SoftMasks(Protocol):
    """Soft masks of which some are computed, or copied, when they are asked for; or a tensor."""

    def __len__(self) -> int:
        """Return N."""
        ...

    def __getitem__(self, part: slice, /) -> Tensor:
        """Return some masks, floating-point [n, h, w]."""
        ...


class TakenMasks:
    """Some of the masks of a tensor, copied when they are asked for.

    Args:
        masks: floating-point [N, h, w].
        rows: int64 [n], which of them.
    """

    def __init__(self, masks: Tensor, rows: Tensor) -> None:
        self._masks = masks
        self._rows = rows

    def __len__(self) -> int:
        """Return n."""
        return len(self._rows)

    def __getitem__(self, part: slice) -> Tensor:
        """Return a copy of some of them."""
        return self._masks.index_select(0, self._rows[part])


def resize_compactly(
    masks: SoftMasks, padded_size: Size, image_size: Size, output_size: Size, threshold: float
) -> tuple[Tensor | RunMasks, Tensor]:
    """Resize and threshold masks as `resize_masks_with_boxes` does, with the same pixels.

    Where the bools of the result would take too much memory (see `are_dense`), a few masks at a
    time are asked for, resized and turned into runs.

    Args:
        masks: N of them.
        padded_size: see `resize_masks`.
        image_size: see `resize_masks`.
        output_size: (H, W).
        threshold: see `resize_masks`.

    Returns:
        masks: bool [N, H, W], or as many `RunMasks`.
        boxes: float32 [N, 4], see `mask_boxes`.
    """
    sizes = padded_size, image_size, output_size
    if are_dense(len(masks), output_size, masks[:0].device):
        return resize_masks_with_boxes(masks[:], *sizes, threshold)

    crops = (
        crop
        for part in mask_parts(len(masks), output_size, MASKS_AT_ONCE)
        for crop in resized_crops(masks[part], *sizes, threshold, resize_soft_masks)
    )
    found = runs_of_crops(crops, output_size)
    return found, found.boxes
