"""Binary masks of one bit per pixel, with what was measured on the way.

Shape letters: N masks; n of them; h w the masks' size; W words of a mask, h w / 32 rounded up.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from solo_family.ops import gpu_kernels
from solo_family.ops.binary_masks import binary_masks, check_masks
from solo_family.ops.mask_iou import mask_areas

WORD_BITS = 32
# Bytes of the values that are measured at a time.
_CHUNK_BYTES = 32 * 2**20


class PackedMasks(NamedTuple):
    """Masks of one size.

    Attributes:
        words: int32 [N, W]: pixel p of the flattened mask is bit p % 32 of word p // 32, the least
            significant first; the bits after the last pixel are 0.
        areas: int64 [N], in pixels.
        maskness: float32 [N], the mean probability inside the mask; 0 for one without pixels.
    """

    words: Tensor
    areas: Tensor
    maskness: Tensor


def pack_masks(
    masks: Tensor, mask_threshold: float | None = None, *, logits: bool = False
) -> PackedMasks:
    """Threshold, measure and pack masks, on a GPU in one pass over them.

    Args:
        masks: [N, h, w]: bool, or floating-point probabilities or logits with a `mask_threshold`;
            float64 is compared as such.
        mask_threshold: a pixel is inside where its value is above this, which NaN is not.
        logits: whether the values are logits, whose maskness is that of their sigmoid.

    Returns:
        N masks; the maskness of bool masks is 1, or 0 without pixels.

    Raises:
        ValueError: for masks that are neither bool nor floating-point with a `mask_threshold`, or
            not [N, h, w].
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
    if masks.ndim != 3:
        raise ValueError(f"masks must be [N, h, w], but have the shape {tuple(masks.shape)}")
    if gpu_kernels.runs("pack", masks):
        from solo_family.ops.packing_triton import pack_masks_triton

        return pack_masks_triton(masks, mask_threshold, logits=logits)
    step = max(1, _CHUNK_BYTES // max(1, 4 * masks[:1].numel()))
    chunks = [measure(chunk, mask_threshold, logits) for chunk in masks.split(step)]
    return PackedMasks(*(torch.cat(parts) for parts in zip(*chunks)))


@_pack_masks.register_fake
def _(masks: Tensor, mask_threshold: float | None, logits: bool) -> tuple[Tensor, Tensor, Tensor]:
    return empty_packed(masks, len(masks), masks.shape[1] * masks.shape[2])


def empty_packed(like: Tensor, count: int, pixels: int) -> PackedMasks:
    """Uninitialised packed masks on a tensor's device."""
    return PackedMasks(
        like.new_empty((count, -(-pixels // WORD_BITS)), dtype=torch.int32),
        like.new_empty(count, dtype=torch.int64),
        like.new_empty(count, dtype=torch.float32),
    )


def measure(masks: Tensor, mask_threshold: float | None, logits: bool = False) -> PackedMasks:
    """`pack_masks` in torch, all masks at once."""
    inside = binary_masks(masks, mask_threshold)
    if masks.dtype == torch.bool:
        areas = mask_areas(inside)
        return PackedMasks(_pack(inside), areas, (areas > 0).float())
    assert mask_threshold is not None
    areas, maskness = measure_inside(masks, inside, mask_threshold, logits)
    return PackedMasks(_pack(inside), areas, maskness)


def measure_inside(
    masks: Tensor, inside: Tensor, mask_threshold: float, logits: bool = False
) -> tuple[Tensor, Tensor]:
    """Areas and maskness, see `PackedMasks`, in torch, all masks at once.

    Args:
        masks: floating-point [N, h, w], probabilities or logits.
        inside: bool [N, h, w], where they are above the threshold, which NaN never is.
        mask_threshold: see `pack_masks`.
        logits: whether the values are logits.

    Returns:
        areas: int64 [N].
        maskness: float32 [N].
    """
    areas = mask_areas(inside)
    # In the precision in which `inside` was found.
    values = masks.to(torch.promote_types(masks.dtype, torch.float32))
    # On a CPU many times as fast as a choice by `inside`, which says the same, but for NaN.
    values = F.threshold(values, mask_threshold, -math.inf if logits else 0.0)
    probabilities = values.sigmoid_() if logits else values
    return areas, probabilities.flatten(1).nansum(dim=1).float() / areas.clamp(min=1)


def _pack(masks: Tensor) -> Tensor:
    flat = masks.flatten(1)
    missing = -flat.shape[1] % WORD_BITS
    if _has_numpy(flat):
        words = torch.zeros((len(flat), (flat.shape[1] + missing) // WORD_BITS), dtype=torch.int32)
        octets = torch.from_numpy(np.packbits(flat.numpy(), axis=1, bitorder="little"))
        words.view(torch.uint8)[:, : octets.shape[1]] = octets
        return words
    bits = F.pad(flat, (0, missing)).unflatten(1, (-1, WORD_BITS))
    places = torch.arange(WORD_BITS, dtype=torch.int32, device=masks.device)
    return (bits.int() << places).sum(dim=2, dtype=torch.int32)


def unpack_masks(words: Tensor, size: tuple[int, int]) -> Tensor:
    """Unpack masks.

    Args:
        words: int32 [N, W], see `PackedMasks`.
        size: (h, w).

    Returns:
        bool [N, h, w].
    """
    return unpack_bits(words)[:, : size[0] * size[1]].unflatten(1, size)


def unpack_bits(words: Tensor) -> Tensor:
    """Every bit of int32 [N, W]: bool [N, 32 W], those after the last pixel among them."""
    octets = words.contiguous().view(torch.uint8)
    if _has_numpy(words):
        bits = np.unpackbits(octets.numpy(), axis=1, bitorder="little")
        return torch.from_numpy(bits).view(torch.bool)
    places = torch.arange(8, dtype=torch.uint8, device=words.device)
    return ((octets[:, :, None] >> places) & 1).flatten(1).view(torch.bool)


def _has_numpy(tensor: Tensor) -> bool:
    """Whether numpy, which packs bits many times as fast as torch, can see the tensor."""
    return tensor.device.type == "cpu"
