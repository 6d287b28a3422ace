"""What a head predicts, and how the masks of cells are made of it.

B images, C cells of all levels, K classes, L levels, S grid side (one per level), n cells, h w of
the masks.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from ...ops import PackedMasks, pack_masks

_Self = TypeVar("_Self", bound="GridOutputs")


@dataclass(frozen=True)
class GridOutputs:
    """What a head predicts of a batch; each method adds what its masks are made of.

    Every field is a tensor [B, ...], or a list of such, one per level. Of a single image it is the
    same without the first dimension.

    Attributes:
        category_logits: L x [B, K, S, S].
    """

    category_logits: list[Tensor]

    def images(self: _Self) -> list[_Self]:
        """Return what belongs to each image."""
        names = [field.name for field in fields(self)]
        # Unbound at once: the gradient of an index is zeros of the whole batch's size.
        unbound = [_unbind(getattr(self, name)) for name in names]
        return [replace(self, **dict(zip(names, image))) for image in zip(*unbound)]


def _unbind(field: Tensor | list[Tensor]) -> Sequence[Any]:
    if isinstance(field, Tensor):
        return field.unbind()
    return [list(levels) for levels in zip(*(level.unbind() for level in field))]


@dataclass(frozen=True)
class Grid:
    """What is known of the cells, on their device.

    Attributes:
        strides: int64 [C], the stride of every cell's level.
        level_ends: int64 [L], the number of cells of the levels up to each.
        grows: whether a larger image has more cells.
    """

    strides: Tensor
    level_ends: Tensor
    grows: bool = False

    def count_by_level(self, cells: Tensor, counted: Tensor) -> Tensor:
        """Return how many of some cells are of the levels up to each.

        Args:
            cells: int64 [..., N].
            counted: bool [..., N], which of them count.

        Returns:
            int64 [..., L].
        """
        cells = torch.where(counted, cells, len(self.strides))
        return (cells[..., None] < self.level_ends).sum(-2)


Outputs = TypeVar("Outputs", bound=GridOutputs)


class MaskDecoder(ABC, Generic[Outputs]):
    """Makes the masks of those cells of one image that are asked for.

    A method writes `soft`. The others do the same in the form that one of the ways of selecting
    needs, and are there to be overridden by what is faster, or by what a graph can hold.

    All take, beside others:

    - outputs: what the head predicts of the image.
    - size: (h, w) of the masks.
    - cells: int64 [n], among the cells of all levels, in any order.
    - counts: how many of them are of the levels up to each, where the caller knows: L numbers. On a
      GPU the host would wait for them, where a method decodes each level by itself.
    """

    # Whether `packed` has no soft masks in memory, and takes the counts as a tensor, int64 [L],
    # without waiting for it. Cells beyond the last count then get area and maskness 0.
    packs_directly = False

    @abstractmethod
    def soft(
        self,
        outputs: Outputs,
        size: tuple[int, int],
        cells: Tensor,
        counts: Sequence[int] | None = None,
    ) -> Tensor:
        """Return probabilities, float32 [n, h, w], free to be overwritten."""

    def packed(
        self,
        outputs: Outputs,
        size: tuple[int, int],
        cells: Tensor,
        threshold: float,
        counts: Any = None,
    ) -> PackedMasks:
        """Return masks of one bit per pixel, set where the probability is above the threshold."""
        return pack_masks(self.soft(outputs, size, cells, counts), threshold)

    def traceable(self, outputs: Outputs, size: tuple[int, int], cells: Tensor) -> Tensor:
        """Return what `soft` does by steps that no cell's value changes, as exporting needs."""
        return self.soft(outputs, size, cells)
