"""Binary masks, whatever masks come as.

Shape letters: N masks; h w the masks' size.
"""

from __future__ import annotations

import torch
from torch import Tensor


def binary_masks(masks: Tensor, mask_threshold: float | None) -> Tensor:
    """Masks as bool, thresholded where they are probabilities; see `matrix_nms`."""
    if masks.dtype == torch.bool:
        return masks
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
    # A Python number would be rounded to the masks' half precision before the comparison, and
    # a tensor without dimensions too; one with a dimension makes it a float32 comparison.
    dtype = torch.promote_types(masks.dtype, torch.float32)
    return masks > masks.new_full((1,), mask_threshold, dtype=dtype)
