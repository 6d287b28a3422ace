"""Decode and train masks of cells where each level has mask features of its own size.

So it is in SOLO and Decoupled SOLO, and in SOLOv2 with separate mask features.

L levels, S grid side (one per level), n cells, n_l those of them on level l, h w size of the masks,
P pairs of a positive cell and an object.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import accumulate
from typing import Any, Protocol

import torch
from torch import Tensor

from ...modeling.gt_masks import downsample_masks
from ...modeling.layers.remembered import constant
from ...ops import PackedMasks, pack_masks
from ...ops.packed_masks import empty_packed
from ...ops.resize import resize_bilinear
from .mask_decoder import MaskDecoder
from .mask_losses import in_parts
from .targets import ImagePairs


class LevelMasks(Protocol):
    """Compute the masks of the cells of one level.

    Attributes:
        num_grids: S of each level.
    """

    num_grids: list[int]

    def mask_probabilities(
        self, level: int, outputs: Any, cells: Tensor, size: tuple[int, int]
    ) -> Tensor:
        """Return the masks of given cells of one level as probabilities.

        Args:
            level: index of the level.
            outputs: the head's predictions for one image; while a graph is exported, for a batch.
            cells: int64 [n], row * S + column; of a batch [B, n].
            size: (h, w) of the masks.

        Returns:
            float32 [n, h, w]; of a batch [B, n, h, w].
        """
        ...

    def traceable_probabilities(self, outputs: Any, cells: Tensor, size: tuple[int, int]) -> Tensor:
        """Return the masks of cells of any level as probabilities, for exported graphs.

        Which operations run must not depend on the values of `cells`.

        Args:
            outputs: the head's predictions for one image or for a batch.
            cells: int64 [..., n], indices among the cells of all levels.
            size: (h, w) of the masks.

        Returns:
            float32 [..., n, h, w].
        """
        ...


class LevelMaskDecoder(MaskDecoder[Any]):
    """Compute the masks level by level, and resize them all to one size.

    Args:
        masks: computes the masks of one level's cells.
    """

    def __init__(self, masks: LevelMasks) -> None:
        self.masks = masks

    def soft(
        self,
        outputs: Any,
        size: tuple[int, int],
        cells: Tensor,
        counts: Sequence[int] | None = None,
    ) -> Tensor:
        """Return the masks as probabilities, float32 [n, h, w]; see `MaskDecoder`."""
        soft = torch.empty((len(cells), *size), dtype=torch.float32, device=cells.device)
        for level, here, inside in self._by_level(cells, counts):
            soft[here] = self.masks.mask_probabilities(level, outputs, inside, size)
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
        whole = empty_packed(cells, len(cells), size[0] * size[1])
        for level, here, inside in self._by_level(cells, counts):
            probabilities = self.masks.mask_probabilities(level, outputs, inside, size)
            for field, part in zip(whole, pack_masks(probabilities, threshold)):
                field[here] = part
            del probabilities
        return whole

    def traceable(self, outputs: Any, size: tuple[int, int], cells: Tensor) -> Tensor:
        """Return what `soft` returns, for exported graphs; see `MaskDecoder`."""
        return self.masks.traceable_probabilities(outputs, cells, size)

    def _by_level(
        self, cells: Tensor, counts: Sequence[int] | None
    ) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Group the cells by level, and yield every level that has any.

        Yields:
            level: index of the level.
            here: int64 [n_l], the positions in `cells` of the level's cells.
            inside: int64 [n_l], the indices of these cells within the level.
        """
        ends = tuple(accumulate(side * side for side in self.masks.num_grids))
        level_ends = constant(cells, ends, torch.int64)
        order = torch.bucketize(cells, level_ends, right=True).argsort(stable=True)
        if counts is None:
            counts = (cells[:, None] < level_ends).sum(0).tolist()
        for level, (first, start, end) in enumerate(zip((0, *ends), (0, *counts), counts)):
            if end > start:
                here = order[start:end]
                yield level, here, cells[here] - first


def all_levels(masks: LevelMasks, outputs: Any, cells: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the masks of cells of any level; see `LevelMasks.traceable_probabilities`.

    Every level computes a mask for each of the n cells, and each mask is taken from the level of
    its cell.
    """
    total, first = cells.new_zeros((), dtype=torch.float32), 0
    for level, side in enumerate(masks.num_grids):
        here = (cells >= first) & (cells < first + side * side)
        inside = (cells - first).clamp(0, side * side - 1)
        probabilities = masks.mask_probabilities(level, outputs, inside, size)
        total = torch.where(here[..., None, None], probabilities, total)
        first += side * side
    return total


def output_stride(stride: int) -> int:
    """Return the stride of a level's masks, which have twice the resolution of its features."""
    return stride // 2


def shrink_by_stride(
    gt_masks: list[Tensor], padded_size: tuple[int, int], level_strides: list[int]
) -> dict[int, Tensor]:
    """Return the true masks at the stride of each level's masks, by the level's stride."""
    return {
        stride: downsample_masks(gt_masks, padded_size, output_stride(stride))
        for stride in set(level_strides)
    }


def losses_by_level(
    level_losses: Callable[..., Tensor],
    pairs: ImagePairs,
    num_grids: list[int],
    true_masks: Sequence[Tensor],
) -> Tensor:
    """Return the mask loss of every pair of one image, float32 [P].

    Args:
        level_losses: maps a level, the true masks at its stride, and the cells (numbered within the
            level) and objects of some pairs to their losses.
        pairs: the pairs of the image.
        num_grids: S of each level.
        true_masks: of each level, at the stride of its masks.
    """
    losses, first = [], 0
    by_level = (part.split(pairs.per_level) for part in (pairs.objects, pairs.cells))
    for level, (objects, cells) in enumerate(zip(*by_level)):
        losses.append(
            in_parts(partial(level_losses, level, true_masks[level]), cells - first, objects)
        )
        first += num_grids[level] ** 2
    return torch.cat(losses)


def resize(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize [..., h, w] of three or four dimensions bilinearly to [..., *size]."""
    return resize_bilinear(maps, size) if maps.dim() == 4 else resize_bilinear(maps[None], size)[0]
