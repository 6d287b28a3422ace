"""The masks of SOLO's cells, which each level makes by itself, from features of its own size.

L levels, S grid side (one per level), n cells, h w of the masks.
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
    """Asks the head for the masks of each level's cells, resized to one size.

    Args:
        head: whose `mask_probabilities` says what the masks of a level are.
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
        if counts is None:
            return super().packed(outputs, size, cells, threshold)
        # The soft masks of no two levels are in memory together.
        masks = empty_packed(cells, len(cells), size[0] * size[1])
        for level, here, inside in self._by_level(cells, counts):
            probabilities = self.head.mask_probabilities(level, outputs, inside, size)
            for whole, part in zip(masks, pack_masks(probabilities, threshold)):
                whole[here] = part
            del probabilities
        return masks

    def traceable(self, outputs: Any, size: tuple[int, int], cells: Tensor) -> Tensor:
        return self.head.traceable_probabilities(outputs, cells, size)

    def _by_level(
        self, cells: Tensor, counts: Sequence[int] | None
    ) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Yield every level that has some of the cells.

        Yields:
            level: its index.
            here: int64 [n_l], which of `cells` are the level's.
            inside: int64 [n_l], these, among the cells of the level.
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
