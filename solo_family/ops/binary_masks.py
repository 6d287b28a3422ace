"""Binary masks, whatever masks come as.

Shape letters: N masks; h w the masks' size; W words of a packed mask.
"""

from __future__ import annotations

import torch
from torch import Tensor


def binary_masks(masks: Tensor, mask_threshold: float | None) -> Tensor:
    """Threshold masks that are not bool yet.

    Args:
        masks: bool [N, h, w], or floating-point with a `mask_threshold`.
        mask_threshold: a pixel belongs to its mask where its value is above this.

    Returns:
        bool [N, h, w].

    Raises:
        ValueError: for other masks.
    """
    check_masks(masks, mask_threshold)
    if masks.dtype == torch.bool:
        return masks
    assert mask_threshold is not None
    # A Python number would be rounded to the masks' half precision before the comparison, and
    # a tensor without dimensions too; one with a dimension makes it a float32 comparison.
    dtype = torch.promote_types(masks.dtype, torch.float32)
    return masks > masks.new_full((1,), mask_threshold, dtype=dtype)


def check_masks(masks: Tensor, mask_threshold: float | None) -> None:
    """Raises ValueError for masks that `binary_masks` can't threshold."""
    if masks.dtype == torch.bool:
        return
    if not masks.is_floating_point():
        raise ValueError(
            f"masks must be bool or floating-point probabilities, but are {masks.dtype}: "
            "convert them, for example with `masks.bool()`"
        )
    if mask_threshold is None:
        raise ValueError(
            f"masks of {masks.dtype} are taken for probabilities, which need a mask_threshold: "
            "pass one, for example mask_threshold=0.5, or pass bool masks"
        )


def is_packed(masks: Tensor) -> bool:
    """Whether masks are the int32 words [N, W] of `PackedMasks`."""
    return masks.dtype == torch.int32 and masks.ndim == 2
