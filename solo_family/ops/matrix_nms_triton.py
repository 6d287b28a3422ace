"""Do matrix NMS on a GPU in Triton kernels on packed masks.

Intersections are the numbers of bits that two masks' words have in common; they are counted once
for each pair, and only for pairs of one class. All sums are of integers, and no two programs write
the same result, so that a result never depends on the order in which programs run.

N masks; n the best of them that take part; h w the masks' size; W words of a mask.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .packing_triton import pack_masks_triton

# Masks along each side of the square of pairs that one program compares.
_TILE = 64
# The words of each place are padded to a multiple of so many masks, which is a multiple of what a
# thread reads at a time.
_CHUNK = 16
# Words that one program compares: parts of masks, so that a few hundred masks fill a GPU.
_WORDS_PER_PART = 256
# Columns that one program reduces, and rows that it reads at a time.
_COLUMNS = 16
_ROWS = 64


def decay_by_class_triton(
    masks: Tensor,
    rows: Tensor,
    labels: Tensor,
    kernel: str,
    sigma: float,
    mask_threshold: float | None,
) -> Tensor:
    """Compute `decay_by_class`, with the same arguments and result."""
    count = len(rows)
    packed = masks.dtype == torch.int32
    words = masks[rows] if packed else pack_masks_triton(masks, mask_threshold, rows=rows).words
    words = _transposed(words)
    intersections = words.new_zeros((count, words.shape[1]))
    compensation = torch.empty(count, dtype=torch.float32, device=masks.device)
    factors = torch.empty_like(compensation)
    if not count:
        return factors
    with torch.cuda.device_of(masks):
        _launch(words, labels, intersections, compensation, factors, kernel, sigma)
    return factors


def _transposed(words: Tensor) -> Tensor:
    """Transpose words, so that one word of all masks is contiguous and a program reads one piece.

    Args:
        words: int32 [n, W].

    Returns:
        int32 [W, m], n masks, padded to a multiple of `_CHUNK` with undefined words.
    """
    count, num_words = words.shape
    transposed = words.new_empty((num_words, triton.cdiv(count, _CHUNK) * _CHUNK))
    transposed[:, :count] = words.T
    return transposed


def _launch(
    words: Tensor,
    labels: Tensor,
    intersections: Tensor,
    compensation: Tensor,
    factors: Tensor,
    kernel: str,
    sigma: float,
) -> None:
    num_words, stride = words.shape
    count = len(labels)
    tiles, parts = triton.cdiv(count, _TILE), triton.cdiv(num_words, _WORDS_PER_PART)
    _intersect_kernel[(tiles, tiles, parts)](
        words,
        labels,
        intersections,
        count,
        num_words,
        stride // _CHUNK,
        TILE=_TILE,
        PART=_WORDS_PER_PART,
        CHUNK=_CHUNK,
    )
    blocks = (triton.cdiv(count, _COLUMNS),)
    _compensate_kernel[blocks](
        intersections,
        labels,
        compensation,
        count,
        stride // _CHUNK,
        CHUNK=_CHUNK,
        ROWS=_ROWS,
        COLUMNS=_COLUMNS,
    )
    _decay_kernel[blocks](
        intersections,
        labels,
        compensation,
        factors,
        sigma,
        count,
        stride // _CHUNK,
        GAUSSIAN=kernel == "gaussian",
        CHUNK=_CHUNK,
        ROWS=_ROWS,
        COLUMNS=_COLUMNS,
    )


@triton.jit(do_not_specialize=["count", "num_words", "chunks"])
def _intersect_kernel(
    words,
    labels,
    intersections,
    count,
    num_words,
    chunks,
    TILE: tl.constexpr,
    PART: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """Add one part of the words of a square of pairs, if it has pairs of one class.

    The stride is a multiple of `CHUNK`, so that the compiler knows its divisors whatever the number
    of masks. Columns of the padding are added up, too, and never read.
    """
    stride = chunks * CHUNK
    top, left = tl.program_id(0), tl.program_id(1)
    start = tl.program_id(2).to(tl.int64) * PART
    # Labels ascend: the rows share a class with the columns, or the columns' first is greater.
    last_row = tl.minimum(top * TILE + TILE, count) - 1
    if (left >= top) & (tl.load(labels + last_row) >= tl.load(labels + left * TILE)):
        row = (top * TILE + tl.arange(0, TILE)).to(tl.int64)
        column = (left * TILE + tl.arange(0, TILE)).to(tl.int64)
        common = tl.zeros((TILE, TILE), dtype=tl.int32)
        for word in range(start, tl.minimum(start + PART, num_words)):
            a = tl.load(words + word * stride + row, mask=row < stride, other=0)
            b = tl.load(words + word * stride + column, mask=column < stride, other=0)
            common += _count_bits(a[:, None] & b[None, :])
        tl.atomic_add(
            intersections + row[:, None] * stride + column[None, :],
            common,
            mask=(row < count)[:, None] & (column < stride)[None, :],
            sem="relaxed",
        )


@triton.jit
def _count_bits(words):
    # In this form the compiler emits one instruction for it.
    x = words.to(tl.uint32, bitcast=True)
    x = x - ((x >> 1) & 0x55555555)
    x = (x & 0x33333333) + ((x >> 2) & 0x33333333)
    x = (x + (x >> 4)) & 0x0F0F0F0F
    return ((x * 0x01010101) >> 24).to(tl.int32)


@triton.jit
def _better_iou(intersections, labels, row, column, count, stride):
    """Return the IoU of columns with better rows of their class, [rows, columns]; 0 elsewhere."""
    exists = row < count
    # The intersection of a mask with itself is its area.
    row_area = tl.load(intersections + row * (stride + 1), mask=exists, other=0)
    column_area = tl.load(intersections + column * (stride + 1), mask=column < count, other=0)
    row_label = tl.load(labels + row, mask=exists, other=-1)
    column_label = tl.load(labels + column, mask=column < count, other=-1)
    counted = (row[:, None] < column[None, :]) & (row_label[:, None] == column_label[None, :])
    counted = counted & (column < count)[None, :]
    pair = row[:, None] * stride + column[None, :]
    common = tl.load(intersections + pair, mask=counted, other=0)
    union = tl.maximum(row_area[:, None] + column_area[None, :] - common, 1)
    return common.to(tl.float32) / union.to(tl.float32)


@triton.jit(do_not_specialize=["count", "chunks"])
def _compensate_kernel(
    intersections,
    labels,
    compensation,
    count,
    chunks,
    CHUNK: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Compute the greatest IoU of each mask with a better one."""
    column = (tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)).to(tl.int64)
    greatest = tl.zeros((COLUMNS,), dtype=tl.float32)
    for start in range(0, tl.minimum((tl.program_id(0) + 1) * COLUMNS, count), ROWS):
        row = (start + tl.arange(0, ROWS)).to(tl.int64)
        iou = _better_iou(intersections, labels, row, column, count, chunks * CHUNK)
        greatest = tl.maximum(greatest, tl.max(iou, axis=0))
    tl.store(compensation + column, greatest, mask=column < count)


@triton.jit(do_not_specialize=["count", "chunks"])
def _decay_kernel(
    intersections,
    labels,
    compensation,
    factors,
    sigma,
    count,
    chunks,
    GAUSSIAN: tl.constexpr,
    CHUNK: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Compute the smallest ratio of each mask over the better ones; see `decay_factors`."""
    column = (tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)).to(tl.int64)
    least = tl.full((COLUMNS,), 1.0, dtype=tl.float32)
    for start in range(0, tl.minimum((tl.program_id(0) + 1) * COLUMNS, count), ROWS):
        row = (start + tl.arange(0, ROWS)).to(tl.int64)
        iou = _better_iou(intersections, labels, row, column, count, chunks * CHUNK)
        held = tl.load(compensation + row, mask=row < count, other=0.0)[:, None]
        if GAUSSIAN:
            ratio = tl.exp(sigma * (held * held - iou * iou))
        else:
            ratio = tl.where(held < 1, (1 - iou) / tl.where(held < 1, 1 - held, 1.0), 1.0)
        least = tl.minimum(least, tl.min(ratio, axis=0))
    tl.store(factors + column, least, mask=column < count)
