"""Hold binary masks with one bit per pixel, their areas and their maskness.

N masks; n of them; h w the masks' size; W words of a mask, h w / 32 rounded up.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .checks import is_packed
from .masks import binary_masks, mask_areas

WORD_BITS = 32
# Number of soft masks that are thresholded at a time.
_CHUNK_MASKS = 16


class PackedMasks(NamedTuple):
    """Masks of one size.

    Attributes:
        words: int32 [N, W]: pixel p of the flattened mask is bit p % 32 of word p // 32, the least
            significant first; the bits after the last pixel are 0.
        areas: int64 [N], in pixels.
        maskness: float32 [N], the mean probability inside the mask; 0 for a mask without pixels.
    """

    words: Tensor
    areas: Tensor
    maskness: Tensor


def empty_packed(like: Tensor, count: int, pixels: int) -> PackedMasks:
    """Return uninitialised packed masks on a tensor's device."""
    return PackedMasks(
        like.new_empty((count, -(-pixels // WORD_BITS)), dtype=torch.int32),
        like.new_empty(count, dtype=torch.int64),
        like.new_empty(count, dtype=torch.float32),
    )


def measure(masks: Tensor, mask_threshold: float | None, logits: bool = False) -> PackedMasks:
    """Compute `pack_masks`, with the same arguments, in torch and for all masks at once."""
    inside = _above(masks, mask_threshold)
    areas = mask_areas(inside)
    if masks.dtype == torch.bool:
        return PackedMasks(_pack(inside), areas, (areas > 0).float())
    assert mask_threshold is not None
    total = _total_inside(masks, mask_threshold, logits)
    return PackedMasks(_pack(inside), areas, total / areas.clamp(min=1))


def measure_inside(
    masks: Tensor, inside: Tensor, mask_threshold: float, logits: bool = False
) -> tuple[Tensor, Tensor]:
    """Return areas and maskness, see `PackedMasks`, in torch, for all masks at once.

    Args:
        masks: floating-point [N, h, w], probabilities or logits.
        inside: bool [N, h, w], where they are above the threshold, which NaN never is.
        mask_threshold: see `pack_masks`.
        logits: whether the values are logits.

    Returns:
        areas: int64 [N].
        maskness: float32 [N].
    """
    total = _total_inside(masks, mask_threshold, logits)
    areas = mask_areas(inside)
    return areas, total / areas.clamp(min=1)


def _above(masks: Tensor, mask_threshold: float | None) -> Tensor:
    """Return `binary_masks`, of which numpy compares float32 several times as fast as torch."""
    if masks.dtype == torch.float32 and mask_threshold is not None and _has_numpy(masks):
        return torch.from_numpy(masks.detach().numpy() > np.float32(mask_threshold))
    return binary_masks(masks, mask_threshold)


def _total_inside(masks: Tensor, mask_threshold: float, logits: bool) -> Tensor:
    """Return the sum of the probabilities inside each mask, float32 [N]."""
    # In the precision in which masks are thresholded.
    values = masks.to(torch.promote_types(masks.dtype, torch.float32))
    # On a CPU many times as fast as selecting by bools, with the same result except for NaN.
    values = F.threshold(values, mask_threshold, -math.inf if logits else 0.0)
    probabilities = values.sigmoid_() if logits else values
    return probabilities.flatten(1).nansum(dim=1).float()


def _pack(masks: Tensor) -> Tensor:
    flat = masks.flatten(1)
    missing = -flat.shape[1] % WORD_BITS
    if _has_numpy(flat):
        shape = len(flat), (flat.shape[1] + missing) // WORD_BITS
        words = torch.zeros(shape, dtype=torch.int32, device=flat.device)
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

    Raises:
        ValueError: words are not packed masks of this size.
    """
    pixels = size[0] * size[1]
    if not is_packed(words) or words.shape[1] != -(-pixels // WORD_BITS):
        raise ValueError(
            f"packed masks of {size} must be int32 [N, {-(-pixels // WORD_BITS)}], but are "
            f"{words.dtype} of the shape {tuple(words.shape)}"
        )
    return _unpack(words)[:, :pixels].unflatten(1, size)


def unpacked_rows(masks: Tensor, rows: Tensor, mask_threshold: float | None) -> Tensor:
    """Return some masks as bool, [n, h, w] or, from packed ones, [n, 32 W].

    Args:
        masks: [N, h, w], or int32 [N, W], see `matrix_nms`.
        rows: int64 [n], their indices.
        mask_threshold: see `matrix_nms`.
    """
    if masks.dtype == torch.bool:
        return masks[rows]
    if not masks.is_floating_point():
        return _unpack(masks[rows])
    # A few at a time, because selecting rows of soft masks copies four bytes for each pixel.
    parts = [binary_masks(masks[some], mask_threshold) for some in rows.split(_CHUNK_MASKS)]
    return torch.cat(parts)


def _unpack(words: Tensor) -> Tensor:
    """Return every bit of int32 [N, W], also those after the last pixel: bool [N, 32 W]."""
    if torch.jit.is_tracing():
        places = torch.arange(WORD_BITS, dtype=torch.int32, device=words.device)
        return ((words[:, :, None] >> places) & 1).flatten(1).bool()
    octets = words.contiguous().view(torch.uint8)
    if _has_numpy(words):
        bits = np.unpackbits(octets.numpy(), axis=1, bitorder="little")
        return torch.from_numpy(bits).view(torch.bool)
    places = torch.arange(8, dtype=torch.uint8, device=words.device)
    return ((octets[:, :, None] >> places) & 1).flatten(1).view(torch.bool)


def _has_numpy(tensor: Tensor) -> bool:
    """Return whether numpy, which packs bits many times as fast as torch, can read the tensor.

    A tracer, as fvcore's counters of operations are, can record neither numpy nor the views of
    words as bytes that it needs.
    """
    return tensor.device.type == "cpu" and not torch.jit.is_tracing()
