"""Split a matrix whose rows have few numbers that are not 0, side by side, into dense blocks.

Bilinear resizing along an axis is such a matrix, and so is its transpose, the gradient.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
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


def bilinear_matrix(size: int, output: int, dtype: torch.dtype) -> Tensor:
    """Return torch's bilinear resizing of an axis between pixel centres, [output, size]."""
    # What becomes of a picture that is 1 in one place, for every place, is the matrix.
    with torch.inference_mode(False), torch.no_grad():
        units = torch.eye(size, dtype=dtype)[None, :, :, None]
        resized = F.interpolate(units, size=(output, 1), mode="bilinear", align_corners=False)
        return resized[0, :, :, 0].T.contiguous()
