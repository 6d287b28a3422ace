"""Decode the masks of cells when they are asked for, a chunk at a time.

n cells, h w size of the masks.
"""

from typing import Any

import torch
from torch import Tensor

from .mask_decoder import GridOutputs, MaskDecoder

Size = tuple[int, int]

# Bytes of the probability maps that are in memory at a time, however many candidates there are. On
# a CPU they fit into its caches; chunks as small would leave a GPU waiting for the host.
_CHUNK_BYTES = 16 * 2**20
_CHUNK_BYTES_GPU = 256 * 2**20


class DecodedMasks:
    """The masks of cells, which are decoded when they are asked for, a chunk at a time.

    Args:
        decoder: computes the masks of cells.
        outputs: the head's predictions for the image.
        size: (h, w).
        cells: int64 [n].
    """

    def __init__(
        self, decoder: MaskDecoder[Any], outputs: GridOutputs, size: Size, cells: Tensor
    ) -> None:
        self._decoder = decoder
        self._outputs = outputs
        self._size = size
        self._cells = cells

    def __len__(self) -> int:
        """Return n."""
        return len(self._cells)

    def __getitem__(self, part: slice) -> Tensor:
        """Return the probabilities of some masks, float32 [n, h, w]."""
        cells = self._cells[part]
        parts = chunks(len(cells), chunk_length(self._size, cells.device))
        with torch.autocast(cells.device.type, enabled=False):
            if len(parts) == 1:
                return self._decoder.soft(self._outputs, self._size, cells)
            soft = cells.new_empty((len(cells), *self._size), dtype=torch.float32)
            for chunk in parts:
                soft[chunk] = self._decoder.soft(self._outputs, self._size, cells[chunk])
        return soft


def chunks(count: int, step: int) -> list[slice]:
    """Return consecutive slices of at most `step` items that cover `count` items."""
    return [slice(start, min(start + step, count)) for start in range(0, count, step)]


def chunk_length(size: Size, device: torch.device) -> int:
    """Return how many probability maps of `size` may be in memory at a time."""
    chunk_bytes = _CHUNK_BYTES if device.type == "cpu" else _CHUNK_BYTES_GPU
    return max(1, chunk_bytes // (4 * size[0] * size[1]))
