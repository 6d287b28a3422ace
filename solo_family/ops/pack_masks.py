"""Pack masks: threshold and measure them, and store one bit per pixel.

N masks; h w the masks' size.
"""

from __future__ import annotations

import torch
from torch import Tensor

from . import gpu_kernels
from .checks import check_dimensions, check_masks
from .packed_masks import PackedMasks, empty_packed, measure

# Bytes of the values that are measured at a time.
_CHUNK_BYTES = 32 * 2**20


def pack_masks(
    masks: Tensor, mask_threshold: float | None = None, *, logits: bool = False
) -> PackedMasks:
    """Threshold, measure and pack masks, on a GPU in one pass over them.

    Args:
        masks: [N, h, w]: bool, or floating-point probabilities or logits with a `mask_threshold`;
            float64 is compared as such.
        mask_threshold: a pixel is inside where its value is above this, which NaN never is.
        logits: whether the values are logits, whose maskness is that of their sigmoid.

    Returns:
        N masks; the maskness of bool masks is 1, or 0 without pixels.

    Raises:
        ValueError: masks are neither bool nor floating-point with a `mask_threshold`, or not [N, h,
            w].
    """
    return PackedMasks(*_pack_masks(masks, mask_threshold, logits))


@torch.library.custom_op(
    "solo_family::pack_masks",
    mutates_args=(),
    schema="(Tensor masks, float? mask_threshold, bool logits) -> (Tensor, Tensor, Tensor)",
)
def _pack_masks(
    masks: Tensor, mask_threshold: float | None, logits: bool
) -> tuple[Tensor, Tensor, Tensor]:
    check_masks(masks, mask_threshold)
    check_dimensions(masks)
    if gpu_kernels.runs("pack", masks):
        # Not every machine has Triton.
        from .packing_triton import pack_masks_triton

        return pack_masks_triton(masks, mask_threshold, logits=logits)
    step = max(1, _CHUNK_BYTES // max(1, 4 * masks[:1].numel()))
    chunks = [measure(chunk, mask_threshold, logits) for chunk in masks.split(step)]
    return PackedMasks(*map(torch.cat, zip(*chunks)))


@_pack_masks.register_fake
def _(masks: Tensor, mask_threshold: float | None, logits: bool) -> tuple[Tensor, Tensor, Tensor]:
    return empty_packed(masks, len(masks), masks.shape[1] * masks.shape[2])
