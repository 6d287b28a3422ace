"""Normalise groups of channels, and apply a ReLU, in Triton kernels for maps with channels last.

B images; C channels; G groups of D channels; H W of a map; T parts of its pixels.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .jit_triton import jit

# Values of one group that a program holds in its registers: such a map takes one launch.
_HELD = 32768
# Values of a program's step over larger maps, and pixels of a part of these.
_STEP = 8192
_PART = 128
# Parts whose means are merged at a time.
_MERGED = 256


def group_norm_triton(
    x: Tensor,
    num_groups: int,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    relu: bool,
) -> Tensor:
    """Compute `group_norm_relu`; see there for the arguments.

    Means and variances are merged in a fixed order, so that results don't depend on the order in
    which programs run.
    """
    images, channels, height, width = x.shape
    pixels, depth = height * width, channels // num_groups
    result = torch.empty_like(x)
    if not x.numel():
        return result
    # A kernel needs some address, also where there is nothing to read.
    factors = [x if factor is None else factor for factor in (weight, bias)]
    options = {
        "CHANNELS": channels,
        "DEPTH": depth,
        "BLOCK_DEPTH": triton.next_power_of_2(depth),
        "SCALES": weight is not None,
        "SHIFTS": bias is not None,
    }
    # Triton launches on the current GPU, which may be a different one.
    with torch.cuda.device_of(x):
        block = _HELD // triton.next_power_of_2(depth)
        if pixels <= block:
            _small_kernel[(num_groups, images)](
                *(x, *factors, result, pixels, eps), **options, RELU=relu, BLOCK=block, num_warps=16
            )
            return result
        parts = triton.cdiv(pixels, _PART)
        moments = x.new_empty((images, parts, 2, channels), dtype=torch.float32)
        affine = x.new_empty((images, 2, channels), dtype=torch.float32)
        columns = min(triton.next_power_of_2(channels), 256)
        rows = min(_STEP // columns, _PART)
        tile = {"CHANNELS": channels, "COLUMNS": columns, "ROWS": rows}
        slices = triton.cdiv(channels, columns)
        _moments_kernel[(parts, images, slices)](
            x, moments, pixels, **tile, PART=_PART, num_warps=8
        )
        _merge_kernel[(num_groups, images)](
            *(moments, *factors, affine, pixels, parts, eps), **options, PART=_PART, MERGED=_MERGED
        )
        grid = triton.cdiv(pixels, rows), images, slices
        _apply_kernel[grid](x, affine, result, pixels, **tile, RELU=relu, num_warps=8)
    return result


@jit(do_not_specialize=["pixels"])
def _small_kernel(
    source,
    weight,
    bias,
    target,
    pixels,
    eps,
    CHANNELS: tl.constexpr,
    DEPTH: tl.constexpr,
    BLOCK_DEPTH: tl.constexpr,
    SCALES: tl.constexpr,
    SHIFTS: tl.constexpr,
    RELU: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Normalise one group of one image, whose values fit into registers."""
    pixel = tl.arange(0, BLOCK)[:, None]
    channel = tl.program_id(0) * DEPTH + tl.arange(0, BLOCK_DEPTH)[None, :]
    in_group = tl.arange(0, BLOCK_DEPTH)[None, :] < DEPTH
    exists = (pixel < pixels) & in_group
    start = tl.program_id(1).to(tl.int64) * pixels * CHANNELS
    place = start + pixel * CHANNELS + channel
    value = tl.load(source + place, mask=exists, other=0).to(tl.float32)
    count = pixels * DEPTH
    mean = tl.sum(tl.sum(value, axis=1), axis=0) / count
    value = tl.where(exists, value - mean, 0.0)
    variance = tl.sum(tl.sum(value * value, axis=1), axis=0) / count
    value = value / tl.sqrt(variance + eps)
    if SCALES:
        value = value * tl.load(weight + channel, mask=in_group, other=0).to(tl.float32)
    if SHIFTS:
        value = value + tl.load(bias + channel, mask=in_group, other=0).to(tl.float32)
    if RELU:
        # Unlike a maximum, this keeps NaN.
        value = tl.where(value < 0, 0.0, value)
    tl.store(target + place, value.to(target.dtype.element_ty), mask=exists)


@jit(do_not_specialize=["pixels"])
def _moments_kernel(
    source,
    moments,
    pixels,
    CHANNELS: tl.constexpr,
    COLUMNS: tl.constexpr,
    ROWS: tl.constexpr,
    PART: tl.constexpr,
):
    """Write each channel's mean over a part of the pixels, and its sum of squared distances."""
    channel = tl.program_id(2) * COLUMNS + tl.arange(0, COLUMNS)
    begin = tl.program_id(0) * PART
    start = tl.program_id(1).to(tl.int64) * pixels * CHANNELS
    mean = tl.zeros([COLUMNS], tl.float32)
    squares = tl.zeros([COLUMNS], tl.float32)
    count = 0.0
    for step in range(0, PART, ROWS):
        pixel = begin + step + tl.arange(0, ROWS)[:, None]
        exists = (pixel < pixels) & (channel < CHANNELS)[None, :]
        place = start + pixel * CHANNELS + channel[None, :]
        value = tl.load(source + place, mask=exists, other=0).to(tl.float32)
        added = tl.minimum(tl.maximum(pixels - begin - step, 0), ROWS).to(tl.float32)
        divisor = tl.maximum(added, 1.0)
        other = tl.sum(value, axis=0) / divisor
        distance = tl.where(exists, value - other[None, :], 0.0)
        # Chan, Golub and LeVeque's update of a mean and a sum of squares by those of more values.
        total = tl.maximum(count + added, 1.0)
        apart = other - mean
        squares += tl.sum(distance * distance, axis=0) + apart * apart * (count * added / total)
        mean += apart * (added / total)
        count += added
    row = (tl.program_id(1) * tl.num_programs(0) + tl.program_id(0)).to(tl.int64) * 2
    tl.store(moments + row * CHANNELS + channel, mean, mask=channel < CHANNELS)
    tl.store(moments + (row + 1) * CHANNELS + channel, squares, mask=channel < CHANNELS)


@jit(do_not_specialize=["pixels", "parts"])
def _merge_kernel(
    moments,
    weight,
    bias,
    affine,
    pixels,
    parts,
    eps,
    CHANNELS: tl.constexpr,
    DEPTH: tl.constexpr,
    BLOCK_DEPTH: tl.constexpr,
    SCALES: tl.constexpr,
    SHIFTS: tl.constexpr,
    PART: tl.constexpr,
    MERGED: tl.constexpr,
):
    """Write the factor and the summand of each channel of one group of one image."""
    channel = tl.program_id(0) * DEPTH + tl.arange(0, BLOCK_DEPTH)
    in_group = tl.arange(0, BLOCK_DEPTH) < DEPTH
    start = moments + tl.program_id(1).to(tl.int64) * parts * 2 * CHANNELS
    # A mean of the parts' means first, so that the distances from it are small.
    mean = 0.0
    for first in range(0, parts, MERGED):
        part = first + tl.arange(0, MERGED)[:, None]
        exists = (part < parts) & in_group[None, :]
        count = tl.minimum(pixels - part * PART, PART).to(tl.float32)
        place = start + part * 2 * CHANNELS + channel[None, :]
        means = tl.load(place, mask=exists, other=0)
        mean += tl.sum(tl.sum(tl.where(exists, means * count, 0.0), axis=1), axis=0)
    mean = mean / (pixels * DEPTH)
    squares = 0.0
    for first in range(0, parts, MERGED):
        part = first + tl.arange(0, MERGED)[:, None]
        exists = (part < parts) & in_group[None, :]
        count = tl.minimum(pixels - part * PART, PART).to(tl.float32)
        place = start + part * 2 * CHANNELS + channel[None, :]
        apart = tl.load(place, mask=exists, other=0) - mean
        own = tl.load(place + CHANNELS, mask=exists, other=0)
        both = tl.where(exists, own + apart * apart * count, 0.0)
        squares += tl.sum(tl.sum(both, axis=1), axis=0)
    factor = tl.zeros([BLOCK_DEPTH], tl.float32) + 1 / tl.sqrt(squares / (pixels * DEPTH) + eps)
    if SCALES:
        factor = factor * tl.load(weight + channel, mask=in_group, other=0).to(tl.float32)
    summand = -mean * factor
    if SHIFTS:
        summand = summand + tl.load(bias + channel, mask=in_group, other=0).to(tl.float32)
    row = affine + tl.program_id(1).to(tl.int64) * 2 * CHANNELS
    tl.store(row + channel, factor, mask=in_group)
    tl.store(row + CHANNELS + channel, summand, mask=in_group)


@jit(do_not_specialize=["pixels"])
def _apply_kernel(
    source,
    affine,
    target,
    pixels,
    CHANNELS: tl.constexpr,
    COLUMNS: tl.constexpr,
    ROWS: tl.constexpr,
    RELU: tl.constexpr,
):
    """Multiply by the factors, add the summands, and apply the ReLU."""
    channel = tl.program_id(2) * COLUMNS + tl.arange(0, COLUMNS)
    row = affine + tl.program_id(1).to(tl.int64) * 2 * CHANNELS
    factor = tl.load(row + channel, mask=channel < CHANNELS, other=0)
    summand = tl.load(row + CHANNELS + channel, mask=channel < CHANNELS, other=0)
    pixel = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]
    exists = (pixel < pixels) & (channel < CHANNELS)[None, :]
    start = tl.program_id(1).to(tl.int64) * pixels * CHANNELS
    place = start + pixel * CHANNELS + channel[None, :]
    value = tl.load(source + place, mask=exists, other=0).to(tl.float32)
    value = value * factor[None, :] + summand[None, :]
    if RELU:
        value = tl.where(value < 0, 0.0, value)
    tl.store(target + place, value.to(target.dtype.element_ty), mask=exists)
