"""Decoding masks straight to packed bits, as a Triton kernel: a matrix product that ends in bits.

Shape letters: N masks; E mask features; H W the features' size; W words of a mask; T parts.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from solo_family.ops.packed_masks import WORD_BITS, PackedMasks, empty_packed
from solo_family.ops.packing_triton import add_parts

# Masks, words of each, and features at a time, of one program.
_BLOCK_MASKS = 64
_BLOCK_WORDS = 4
_BLOCK_FEATURES = 32


def decode_masks_triton(kernels: Tensor, features: Tensor, mask_threshold: float) -> PackedMasks:
    """`decode_masks`, of kernels and features of one dtype: float16, bfloat16 or float32."""
    count, pixels = len(kernels), features.shape[1] * features.shape[2]
    packed = empty_packed(kernels, count, pixels)
    num_words = packed.words.shape[1]
    parts = triton.cdiv(num_words, _BLOCK_WORDS)
    areas = kernels.new_empty((count, parts), dtype=torch.int32)
    totals = kernels.new_empty((count, parts), dtype=torch.float32)
    if areas.numel():
        # Programs that run together share a part of the features, which are the larger factor.
        grid = triton.cdiv(count, _BLOCK_MASKS), parts
        with torch.cuda.device_of(kernels):
            _decode_kernel[grid](
                kernels.contiguous(),
                features.contiguous(),
                packed.words,
                areas,
                totals,
                mask_threshold,
                count,
                kernels.shape[1],
                pixels,
                num_words,
                PRECISION=_precision(kernels.dtype),
                MASKS=_BLOCK_MASKS,
                WORDS=_BLOCK_WORDS,
                FEATURES=_BLOCK_FEATURES,
                BITS=WORD_BITS,
            )
    return add_parts(packed.words, areas, totals)


def _precision(dtype: torch.dtype) -> str:
    # TensorFloat-32 holds every float16 and bfloat16; three of its products are about as precise
    # as one of float32.
    halves = dtype != torch.float32
    return "tf32" if halves or torch.backends.cuda.matmul.allow_tf32 else "tf32x3"


@triton.jit
def _decode_kernel(
    kernels,
    features,
    words,
    areas,
    totals,
    threshold,
    count,
    channels,
    pixels,
    num_words,
    PRECISION: tl.constexpr,
    MASKS: tl.constexpr,
    WORDS: tl.constexpr,
    FEATURES: tl.constexpr,
    BITS: tl.constexpr,
):
    part = tl.program_id(1)
    mask = (tl.program_id(0) * MASKS + tl.arange(0, MASKS)).to(tl.int64)
    pixel = (part * WORDS * BITS + tl.arange(0, WORDS * BITS)).to(tl.int64)
    logits = tl.zeros((MASKS, WORDS * BITS), dtype=tl.float32)
    for first in range(0, channels, FEATURES):
        channel = (first + tl.arange(0, FEATURES)).to(tl.int64)
        a = tl.load(
            kernels + mask[:, None] * channels + channel[None, :],
            mask=(mask < count)[:, None] & (channel < channels)[None, :],
            other=0.0,
        )
        b = tl.load(
            features + channel[:, None] * pixels + pixel[None, :],
            mask=(channel < channels)[:, None] & (pixel < pixels)[None, :],
            other=0.0,
        )
        logits = tl.dot(a.to(tl.float32), b.to(tl.float32), logits, input_precision=PRECISION)
    probability = 1 / (1 + tl.exp(-logits))
    inside = (probability > threshold) & (pixel < pixels)[None, :]
    bits = inside.to(tl.int32)
    placed = tl.reshape(bits << (pixel % BITS).to(tl.int32)[None, :], (MASKS, WORDS, BITS))
    word = part * WORDS + tl.arange(0, WORDS)
    tl.store(
        words + mask[:, None] * num_words + word[None, :],
        tl.sum(placed, axis=2),
        mask=(mask < count)[:, None] & (word < num_words)[None, :],
    )
    place = mask * tl.num_programs(1) + part
    tl.store(areas + place, tl.sum(bits, axis=1), mask=mask < count)
    total = tl.sum(tl.where(inside, probability, 0.0), axis=1)
    tl.store(totals + place, total, mask=mask < count)
