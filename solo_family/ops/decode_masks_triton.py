"""Decode masks straight to packed bits in a Triton kernel: a matrix product that ends in bits.

N masks; n selected ones; E mask features; H W the features' size; P pixels, H W; W words of a mask.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .decode_tiles import VECTOR_BYTES, layout_of, multiplies_tiles, readable, tile_for
from .float32_precision import tf32_allowed
from .jit_triton import jit
from .packed_masks import WORD_BITS, PackedMasks, empty_packed

# Number of masks, and of parts of each, that are added up at a time.
_ADDED_MASKS, _ADDED_PARTS = 8, 256


def decode_masks_triton(
    kernels: Tensor,
    features: Tensor,
    mask_threshold: float,
    *,
    rows: Tensor | None = None,
    valid: Tensor | None = None,
) -> PackedMasks:
    """Compute `decode_masks` for one dtype: float16, bfloat16 or float32.

    The features are copied only if H and W can't be viewed as one dimension.

    Args:
        kernels: see `decode_masks`.
        features: see `decode_masks`.
        mask_threshold: see `decode_masks`.
        rows: see `decode_masks`.
        valid: see `decode_masks`.

    Returns:
        n masks.
    """
    features = features.flatten(1)
    kernels, rows = readable(kernels, rows)
    count, (channels, pixels) = len(kernels if rows is None else rows), features.shape
    packed = empty_packed(kernels, count, pixels)
    num_words = packed.words.shape[1]
    layout, precision = layout_of(kernels, features), _precision(kernels)
    tile = tile_for(layout, kernels, precision)
    parts = triton.cdiv(num_words, tile.words)
    # For each part: its pixels, a number that float32 represents, and the sum of their
    # probabilities.
    sums = kernels.new_empty((2, parts, count), dtype=torch.float32)
    if not sums.numel():
        return PackedMasks(packed.words, packed.areas.zero_(), packed.maskness.zero_())
    # Programs that run at the same time share a part of the features, which are the larger factor.
    # Along one axis, as the others end at 65,535: features of 4.2 million pixels have more parts.
    grid = (triton.cdiv(count, tile.masks) * parts,)
    # Triton launches on the current GPU, which may be a different one.
    with torch.cuda.device_of(kernels):
        _decode_kernel[grid](
            kernels,
            features,
            rows,
            valid,
            packed.words,
            sums,
            mask_threshold,
            count,
            channels,
            pixels,
            num_words,
            kernels.stride(0),
            *features.stride(),
            LAYOUT=layout,
            VECTOR=VECTOR_BYTES // kernels.element_size(),
            PRECISION=precision,
            MASKS=tile.masks,
            WORDS=tile.words,
            FEATURES=tile.features,
            BITS=WORD_BITS,
            num_warps=tile.warps,
            num_stages=tile.stages,
        )
        _add_kernel[(triton.cdiv(count, _ADDED_MASKS),)](
            sums,
            valid,
            packed.areas,
            packed.maskness,
            count,
            parts,
            MASKS=_ADDED_MASKS,
            PARTS=_ADDED_PARTS,
        )
    return packed


def _precision(kernels: Tensor) -> str:
    """Return how float32 is multiplied; half precisions stay as they are unless it is "float32"."""
    if not isinstance(_decode_kernel, triton.JITFunction):
        # Triton's interpreter supports only this, and would read bfloat16 as integers.
        return "float32"
    if not multiplies_tiles(kernels.device):
        return "ieee"
    if kernels.dtype != torch.float32 or tf32_allowed():
        return "tf32"
    # About as precise as float32: the products of three bfloat16 that together hold all its bits,
    # or, in earlier versions, of two TensorFloat-32.
    known = tuple(int(number) for number in triton.__version__.split(".")[:2]) >= (3, 6)
    return "bf16x6" if known else "tf32x3"


# Read through hints that `LAYOUT` selects, so that no size compiles another variant.
_SIZES = ("count", "channels", "pixels", "num_words", "row_stride", "channel_stride")


@jit(
    do_not_specialize=(*_SIZES, "pixel_stride"),
    do_not_specialize_on_alignment=("kernels", "features", "rows", "valid"),
)
def _decode_kernel(
    kernels,
    features,
    rows,
    valid,
    words,
    sums,
    threshold: tl.float32,
    count: tl.int32,
    channels: tl.int32,
    pixels: tl.int32,
    num_words: tl.int32,
    row_stride: tl.int64,
    channel_stride: tl.int64,
    pixel_stride: tl.int64,
    LAYOUT: tl.constexpr,
    VECTOR: tl.constexpr,
    PRECISION: tl.constexpr,
    MASKS: tl.constexpr,
    WORDS: tl.constexpr,
    FEATURES: tl.constexpr,
    BITS: tl.constexpr,
):
    blocks = tl.cdiv(count, MASKS)
    part, parts = tl.program_id(0) // blocks, tl.num_programs(0) // blocks
    first = tl.program_id(0) % blocks * MASKS
    mask = first + tl.arange(0, MASKS)
    limit = count
    if valid is not None:
        limit = tl.minimum(tl.load(valid), count).to(tl.int32)
    if first >= limit:
        return
    row = mask.to(tl.int64)
    if rows is not None:
        row = tl.load(rows + row, mask=mask < limit, other=0)
    if LAYOUT != "any":
        row_stride = row_stride // VECTOR * VECTOR
        channels = channels // VECTOR * VECTOR
    if LAYOUT == "pixels":
        pixels = pixels // VECTOR * VECTOR
        channel_stride = channel_stride // VECTOR * VECTOR
        pixel_stride = 1
    if LAYOUT == "channels":
        pixel_stride = pixel_stride // VECTOR * VECTOR
        channel_stride = 1
    channel = tl.arange(0, FEATURES)
    pixel = part * WORDS * BITS + tl.arange(0, WORDS * BITS)
    a = kernels + row[:, None] * row_stride + channel[None, :]
    b = features + channel.to(tl.int64)[:, None] * channel_stride + pixel[None, :] * pixel_stride
    if LAYOUT != "any":
        a = tl.multiple_of(a, (1, 16))
    if LAYOUT == "pixels":
        b = tl.multiple_of(b, (1, 16))
    if LAYOUT == "channels":
        b = tl.multiple_of(b, (16, 1))
    wanted, within = (mask < limit)[:, None], (pixel < pixels)[None, :]
    logits = tl.zeros((MASKS, WORDS * BITS), dtype=tl.float32)
    for start in range(0, channels, FEATURES):
        left = channel < channels - start
        weights = tl.load(a, mask=wanted & left[None, :], other=0.0)
        values = tl.load(b, mask=left[:, None] & within, other=0.0)
        if PRECISION == "float32":
            logits = tl.dot(weights.to(tl.float32), values.to(tl.float32), logits)
        else:
            logits = tl.dot(weights, values, logits, input_precision=PRECISION)
        a += FEATURES
        b += FEATURES * channel_stride
    probability = 1 / (1 + tl.exp(-logits))
    inside = (probability > threshold) & within
    bits = inside.to(tl.int32)
    places = tl.arange(0, WORDS * BITS) % BITS
    packed = tl.sum(tl.reshape(bits << places[None, :], (MASKS, WORDS, BITS)), axis=2)
    word = part * WORDS + tl.arange(0, WORDS)
    tl.store(
        words + mask.to(tl.int64)[:, None] * num_words + word[None, :],
        packed,
        mask=wanted & (word < num_words)[None, :],
    )
    place = sums + part.to(tl.int64) * count + mask
    tl.store(place, tl.sum(bits, axis=1).to(tl.float32), mask=mask < limit)
    total = tl.sum(tl.where(inside, probability, 0.0), axis=1)
    tl.store(place + parts.to(tl.int64) * count, total, mask=mask < limit)


@jit(do_not_specialize=("count", "parts"), do_not_specialize_on_alignment=("valid",))
def _add_kernel(
    sums,
    valid,
    areas,
    maskness,
    count: tl.int32,
    parts: tl.int32,
    MASKS: tl.constexpr,
    PARTS: tl.constexpr,
):
    """Add up areas and probabilities of masks over their parts, in a fixed order; 0 if unwanted."""
    first_mask = tl.program_id(0) * MASKS
    mask = first_mask + tl.arange(0, MASKS)
    limit = count
    if valid is not None:
        limit = tl.minimum(tl.load(valid), count).to(tl.int32)
    if first_mask >= limit:
        parts = 0
    area = tl.zeros((PARTS, MASKS), dtype=tl.int32)
    total = tl.zeros((PARTS, MASKS), dtype=tl.float32)
    for first in range(0, parts, PARTS):
        part = first + tl.arange(0, PARTS)
        exists = (part < parts)[:, None] & (mask < limit)[None, :]
        places = sums + part.to(tl.int64)[:, None] * count + mask[None, :]
        area += tl.load(places, mask=exists, other=0.0).to(tl.int32)
        total += tl.load(places + parts.to(tl.int64) * count, mask=exists, other=0.0)
    pixels = tl.sum(area, axis=0)
    mean = tl.sum(total, axis=0) / tl.maximum(pixels, 1).to(tl.float32)
    tl.store(areas + mask, pixels.to(tl.int64), mask=mask < count)
    tl.store(maskness + mask, mean, mask=mask < count)
