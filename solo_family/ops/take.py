"""Take rows of tensors by index, for one image or for a batch."""

from __future__ import annotations

import torch
from torch import Tensor


def take_rows(values: Tensor, index: Tensor) -> Tensor:
    """Return the rows of an image, or of every image of a batch.

    Args:
        values: [N, ...] or [B, N, ...].
        index: int64 [n] or [B, n], of the N rows.

    Returns:
        [n, ...] or [B, n, ...].
    """
    if index.dim() == 1:
        return values[index]
    if torch.onnx.is_in_onnx_export() and index.shape[0] == 1:
        return values[0][index[0]][None]
    # One gather of whole rows: an index for every element would need more memory than the rows.
    return values.flatten(0, 1)[index + _first_rows(index, values.shape[1])]


def _first_rows(index: Tensor, count: int) -> Tensor:
    """Return where the rows of every image begin in those of all, int64 [B, 1]."""
    if torch.onnx.is_in_onnx_export():
        # Counted from the content: the exporter may take the size of the batch for a constant.
        return (index[:, :1] * 0 + count).cumsum(0) - count
    return torch.arange(index.shape[0], device=index.device)[:, None] * count
