"""Decode the masks of SOLO's cells, for which each level has features of its own size.

L levels, S grid side (one per level), n cells, n_l those of them on level l, h w size of the masks.
"""

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from ...modeling.layers.remembered import constant
from ...ops import PackedMasks, pack_masks
from ...ops.packed_masks import empty_packed
from ..grid.mask_decoder import MaskDecoder
from .decoupled_head import DecoupledSOLOHead
from .head import SOLOHead

Head = SOLOHead | DecoupledSOLOHead


class LevelMaskDecoder(MaskDecoder[Any]):
    """Let the head compute the masks level by level, and resize them all to one size.

    Args:
        head: the head, whose `mask_probabilities` computes the masks of one level's cells.
    """

    def __init__(self, head: Head) -> None:
        self.head = head

    def soft(
        self,
        outputs: Any,
        size: tuple[int, int],
        cells: Tensor,
        counts: Sequence[int] | None = None,
    ) -> Tensor:
        """Return the masks as probabilities, float32 [n, h, w]; see `MaskDecoder`."""
        soft = torch.empty((len(cells), *size), device=cells.device)
        for level, here, inside in self._by_level(cells, counts):
            soft[here] = self.head.mask_probabilities(level, outputs, inside, size)
        return soft

    def packed(
        self,
        outputs: Any,
        size: tuple[int, int],
        cells: Tensor,
        threshold: float,
        counts: Any = None,
    ) -> PackedMasks:
        """Return the masks with one bit per pixel; see `MaskDecoder`."""
        if counts is None:
            return super().packed(outputs, size, cells, threshold)
        # One level after another, so that only one level's soft masks are in memory.
        masks = empty_packed(cells, len(cells), size[0] * size[1])
        for level, here, inside in self._by_level(cells, counts):
            probabilities = self.head.mask_probabilities(level, outputs, inside, size)
            for whole, part in zip(masks, pack_masks(probabilities, threshold)):
                whole[here] = part
            del probabilities
        return masks

    def traceable(self, outputs: Any, size: tuple[int, int], cells: Tensor) -> Tensor:
        """Return what `soft` returns, for exported graphs; see `MaskDecoder`."""
        return self.head.traceable_probabilities(outputs, cells, size)

    def _by_level(
        self, cells: Tensor, counts: Sequence[int] | None
    ) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Group the cells by level, and yield every level that has any.

        Yields:
            level: index of the level.
            here: int64 [n_l], the positions in `cells` of the level's cells.
            inside: int64 [n_l], the indices of these cells within the level.
        """
        ends = tuple(accumulate(side * side for side in self.head.num_grids))
        level_ends = constant(cells, ends, torch.int64)
        order = torch.bucketize(cells, level_ends, right=True).argsort(stable=True)
        if counts is None:
            counts = (cells[:, None] < level_ends).sum(0).tolist()
        for level, (first, start, end) in enumerate(zip((0, *ends), (0, *counts), counts)):
            if end > start:
                here = order[start:end]
                yield level, here, cells[here] - first
