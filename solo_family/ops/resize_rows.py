"""Resize masks on a CPU as matrix products, a block of the output's rows after another.

Bilinear resizing, in two steps and with a crop in between, is linear and acts on rows and columns
separately: it is a matrix for the rows and one for the columns, with a narrow band of numbers that
are not 0. Products with these bands take a small part of the time of torch's interpolation, and
everything that follows finds a block of rows of all masks still in the cache.

N masks; h w of the network's masks; H W of the output; r rows of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from .bands import Band, bands, matrix_of

Size = tuple[int, int]

# Bytes of the float32 values of one block: they stay in the cache, and are enough for a product.
_BLOCK_BYTES = 4 * 2**20
# Columns of one product: more columns have a wider band.
_COLUMNS = 128


class MaskRows(NamedTuple):
    """Masks of which all are there at a time, but only some rows.

    Attributes:
        num_masks: N.
        blocks: slices of the rows in order, and all masks there, float32 [N, r, W], which may be
            changed until the next block is asked for.
    """

    num_masks: int
    blocks: Iterator[tuple[slice, Tensor]]


def resized_rows(
    masks: Tensor,
    padded_size: Size,
    image_size: Size,
    output_size: Size,
    resize: Callable,
    as_for: int = 0,
) -> Iterator[tuple[slice, Tensor]]:
    """Resize masks, all at once, a few rows at a time.

    Args:
        masks: floating-point [N, h, w] on a CPU.
        padded_size: (height, width) of the network's input.
        image_size: (height, width) of the image in it, without padding.
        output_size: (H, W).
        resize: `resize_soft_masks`, whose results these are, up to rounding.
        as_for: the blocks have as many rows as those of so many masks; 0 for N. Sums over blocks
            are then the same, to the last bit.

    Yields:
        A slice of the output's rows, and all masks there, float32 [N, r, W]. The tensor is
        overwritten for the next rows, and may be changed.
    """
    (count, *size), width = masks.shape, output_size[1]
    if not count:
        return
    step = max(1, _BLOCK_BYTES // (4 * (as_for or count) * width))
    if not masks.sum(dtype=torch.float32).isfinite():
        # A product with 0 would spread what is not finite.
        whole = resize(masks, padded_size, image_size, output_size)
        for start in range(0, output_size[0], step):
            some = slice(start, min(start + step, output_size[0]))
            yield some, whole[:, some].contiguous()
        return
    by_axis = list(zip(size, padded_size, image_size, output_size))
    rows, columns = _bands(*by_axis[0], step, resize), _bands(*by_axis[1], _COLUMNS, resize)
    masks = masks.float()
    most = max(len(band.weights) for band in rows) * count * width
    result = masks.new_empty(most)
    most = max(band.weights.shape[1] for band in rows) * count * width
    wide = masks.new_empty(most)
    for band in rows:
        given = masks[:, band.inputs].flatten(0, 1)
        stretched = wide[: len(given) * width].view(-1, width)
        for column in columns:
            part = stretched[:, column.outputs]
            torch.mm(given[:, column.inputs], column.weights.T, out=part)
        block = result[: count * len(band.weights) * width].view(count, -1, width)
        torch.matmul(band.weights, stretched.view(count, -1, width), out=block)
        yield band.outputs, block


def resizing_matrix(size: int, padded: int, image: int, output: int, resize: Callable) -> Tensor:
    """Return the resizing of one axis, float32 [output, size]; sizes as for `resized_rows`."""
    sizes = (padded, 1), (image, 1), (output, 1)
    return matrix_of(lambda units: resize(units, *sizes), size, torch.float32)


@lru_cache(maxsize=64)
def _bands(
    size: int, padded: int, image: int, output: int, step: int, resize: Callable
) -> list[Band]:
    """Return the resizing of one axis, in blocks of outputs."""
    return bands(resizing_matrix(size, padded, image, output, resize), step)
