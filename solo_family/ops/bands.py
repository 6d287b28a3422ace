"""Split a matrix whose rows have few numbers that are not 0, side by side, into dense blocks.

Bilinear resizing along an axis is such a matrix, and so is its transpose, the gradient.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Band(NamedTuple):
    """A block of outputs along one axis, the inputs that they depend on, and how.

    Attributes:
        outputs: slice of the outputs.
        inputs: slice of the inputs.
        weights: floating-point [outputs, inputs].
    """

    outputs: slice
    inputs: slice
    weights: Tensor


def bands(matrix: Tensor, step: int) -> list[Band]:
    """Return a matrix, [outputs, inputs], in blocks of `step` outputs, in order."""
    blocks = []
    for start in range(0, len(matrix), step):
        block = matrix[start : start + step]
        # Outputs may depend on nothing at all: maps that are made smaller leave pixels out.
        used = block.ne(0).any(0).nonzero()[:, 0].tolist() or [0]
        inputs = slice(used[0], used[-1] + 1)
        outputs = slice(start, start + len(block))
        blocks.append(Band(outputs, inputs, block[:, inputs].contiguous()))
    return blocks


def matrix_of(resize: Callable[[Tensor], Tensor], size: int, dtype: torch.dtype) -> Tensor:
    """Return the matrix of a linear resizing of one axis, [output, size].

    Args:
        resize: takes pictures of one column, [size, size, 1], to [size, output, 1].
        size: of the axis.
        dtype: of the matrix.
    """
    # What becomes of a picture that is 1 in one place, for every place, is the matrix.
    with torch.inference_mode(False), torch.no_grad():
        units = torch.eye(size, dtype=dtype)[:, :, None]
        return resize(units)[:, :, 0].T.contiguous()
