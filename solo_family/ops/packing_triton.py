"""Threshold, measure and pack masks in one pass, in a Triton kernel.

N masks; n of them; h w the masks' size; W words of a mask; T parts of a mask.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .jit_triton import jit
from .packed_masks import WORD_BITS, PackedMasks, empty_packed

# Words of one program: 8,192 pixels, of which each thread loads neighbouring ones.
_BLOCK_WORDS = 256
# Numbers of pixels, and of bytes, whose multiples let a thread read 16 bytes at a time.
_ALIGNMENT = 16


def pack_masks_triton(
    masks: Tensor,
    mask_threshold: float | None,
    *,
    logits: bool = False,
    rows: Tensor | None = None,
) -> PackedMasks:
    """Compute `pack_masks` for some rows.

    Args:
        masks: [N, h, w], bool, float16, bfloat16 or float32.
        mask_threshold: see `pack_masks`.
        logits: see `pack_masks`.
        rows: int64 [n], indices of the masks, in that order; None for all.

    Returns:
        n masks.
    """
    if rows is None:
        rows = torch.arange(len(masks), device=masks.device)
    pixels = masks.shape[1] * masks.shape[2]
    packed = empty_packed(masks, len(rows), pixels)
    parts = triton.cdiv(packed.words.shape[1], _BLOCK_WORDS)
    areas = masks.new_empty((len(rows), parts), dtype=torch.int32)
    totals = masks.new_empty((len(rows), parts), dtype=torch.float32)
    is_bool = masks.dtype == torch.bool
    masks = masks.contiguous()
    # A constant, so that there are two variants of the kernel rather than one for each size.
    aligned = pixels % _ALIGNMENT == 0 and masks.data_ptr() % _ALIGNMENT == 0
    if areas.numel():
        # Triton launches on the current GPU, which may be a different one.
        with torch.cuda.device_of(masks):
            _pack_kernel[(len(rows), parts)](
                masks.view(torch.uint8) if is_bool else masks,
                rows,
                packed.words,
                areas,
                totals,
                # A bool is stored as 0 or 1.
                0.5 if is_bool or mask_threshold is None else mask_threshold,
                pixels,
                packed.words.shape[1],
                LOGITS=logits and not is_bool,
                BLOCK=_BLOCK_WORDS,
                BITS=WORD_BITS,
                ALIGNED=aligned,
                ALIGNMENT=_ALIGNMENT,
            )
    return add_parts(packed.words, areas, totals)


def add_parts(words: Tensor, areas: Tensor, totals: Tensor) -> PackedMasks:
    """Add up areas and sums of probabilities, in parts [n, T], in a fixed order."""
    area = areas.sum(dim=1)
    return PackedMasks(words, area, totals.sum(dim=1) / area.clamp(min=1))


@jit(do_not_specialize=["pixels", "num_words"], do_not_specialize_on_alignment=["masks"])
def _pack_kernel(
    masks,
    rows,
    words,
    areas,
    totals,
    threshold,
    pixels,
    num_words,
    LOGITS: tl.constexpr,
    BLOCK: tl.constexpr,
    BITS: tl.constexpr,
    ALIGNED: tl.constexpr,
    ALIGNMENT: tl.constexpr,
):
    place = tl.program_id(0).to(tl.int64)
    part = tl.program_id(1)
    start = masks + tl.load(rows + place) * pixels
    if ALIGNED:
        start = tl.multiple_of(start, ALIGNMENT)
        # The same number, but in a form that shows the compiler its divisors.
        pixels = pixels // ALIGNMENT * ALIGNMENT
    word = part * BLOCK + tl.arange(0, BLOCK)
    pixel = word[:, None] * BITS + tl.arange(0, BITS)[None, :]
    exists = pixel < pixels
    value = tl.load(start + pixel, mask=exists, other=0).to(tl.float32)
    inside = (value > threshold) & exists
    if LOGITS:
        value = 1 / (1 + tl.exp(-value))
    bits = inside.to(tl.int32)
    packed = tl.sum(bits << tl.arange(0, BITS)[None, :], axis=1)
    tl.store(words + place * num_words + word, packed, mask=word < num_words)
    area = tl.sum(tl.sum(bits, axis=1), axis=0)
    total = tl.sum(tl.sum(tl.where(inside, value, 0.0), axis=1), axis=0)
    tl.store(areas + place * tl.num_programs(1) + part, area)
    tl.store(totals + place * tl.num_programs(1) + part, total)
