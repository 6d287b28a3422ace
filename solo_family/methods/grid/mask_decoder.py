"""Define the predictions of a head, and how the masks of cells are decoded from them.

B images, C cells of all levels, K classes, L levels, S grid side (one per level), n cells, h w size
of the masks.
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
    """Hold the predictions of a head for a batch; each method adds what its masks are made of.

    Every field is a tensor [B, ...], or a list of such tensors, one per level. For a single image
    the fields are the same without the first dimension.

    Attributes:
        category_logits: L x [B, K, S, S].
    """

    category_logits: list[Tensor]

    def images(self: _Self) -> list[_Self]:
        """Return the predictions of each image."""
        names = [field.name for field in fields(self)]
        # All images are unbound at once: the gradient of indexing would allocate zeros of the whole
        # batch's size for every image.
        unbound = [_unbind(getattr(self, name)) for name in names]
        return [replace(self, **dict(zip(names, image))) for image in zip(*unbound)]


def _unbind(field: Tensor | list[Tensor]) -> Sequence[Any]:
    if isinstance(field, Tensor):
        return field.unbind()
    return [list(levels) for levels in zip(*(level.unbind() for level in field))]


@dataclass(frozen=True)
class Grid:
    """Describe the cells of all levels; the tensors are on the model's device.

    Attributes:
        strides: int64 [C], the stride of every cell's level.
        level_ends: int64 [L], the cumulative number of cells: of a level and all levels before it.
        grows: whether a larger image has more cells.
    """

    strides: Tensor
    level_ends: Tensor
    grows: bool = False

    def count_by_level(self, cells: Tensor, counted: Tensor) -> Tensor:
        """Return the cumulative number of given cells per level.

        Args:
            cells: int64 [..., N], indices among the cells of all levels.
            counted: bool [..., N], which of them to count.

        Returns:
            int64 [..., L]: how many counted cells belong to a level or to one before it.
        """
        cells = torch.where(counted, cells, len(self.strides))
        return (cells[..., None] < self.level_ends).sum(-2)


Outputs = TypeVar("Outputs", bound=GridOutputs)


class MaskDecoder(ABC, Generic[Outputs]):
    """Decode the masks of requested cells of one image.

    A method has to define `soft`. `packed` and `traceable` return the same masks in the form that
    another way of selecting needs; a method overrides them if it can do so faster, or if `soft`
    cannot be traced.

    The methods share these arguments:

    - outputs: the head's predictions for the image.
    - size: (h, w) of the masks.
    - cells: int64 [n], indices among the cells of all levels, in any order.
    - counts: L numbers, as of `Grid.count_by_level`: the cumulative number of `cells` per level. A
      caller passes them if it knows them; otherwise a method that decodes level by level
      makes the host wait for a GPU.
    """

    # Whether `packed` needs no soft masks in memory and accepts `counts` as a tensor, int64 [L],
    # without waiting for it. The cells from the last count on then get area 0 and maskness 0.
    packs_directly = False

    @abstractmethod
    def soft(
        self,
        outputs: Outputs,
        size: tuple[int, int],
        cells: Tensor,
        counts: Sequence[int] | None = None,
    ) -> Tensor:
        """Return the masks as probabilities, float32 [n, h, w]; the caller may overwrite them."""

    def packed(
        self,
        outputs: Outputs,
        size: tuple[int, int],
        cells: Tensor,
        threshold: float,
        counts: Any = None,
    ) -> PackedMasks:
        """Return the masks with one bit per pixel: whether its probability exceeds `threshold`."""
        return pack_masks(self.soft(outputs, size, cells, counts), threshold)

    def traceable(self, outputs: Outputs, size: tuple[int, int], cells: Tensor) -> Tensor:
        """Return what `soft` returns, by operations that do not depend on the values of `cells`.

        A traced graph, as export needs it, is then valid for any cells. The outputs and the cells
        may be those of a batch, with B as first dimension, as the masks are then.
        """
        return self.soft(outputs, size, cells)
