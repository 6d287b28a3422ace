"""Weights of a convolution in the order that oneDNN computes with on a CPU.

oneDNN wants another order for another size of maps, of which it does not say which it is. Weights
in the wrong one are put in order by each call, which takes up to 100 times as long as the
convolution; its results are the same.

B images, I input channels, O output channels, H W of a map, k side of the kernel.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..ops import winograd

# The height and width of maps that weights are packed for at first.
_PACKED_FOR = (100, 136)
# After so many calls with maps of one size the weights are packed for that size: tiles and videos
# have one. Where sizes take turns, as those of a pyramid's levels do, nothing is packed anew.
_IN_A_ROW = 3


class PackedWeights:
    """The weights of one convolution.

    Args:
        plain: [O, I / groups, k, k].
        geometry: padding, stride and dilation, of both axes, and the number of groups.

    Attributes:
        packed: the weights in oneDNN's order; None until they are asked for.
        transformed: those that Winograd's tiles are multiplied by; None until they are asked for.
    """

    def __init__(self, plain: Tensor, geometry: tuple[Any, Any, Any, int]) -> None:
        self.packed: Tensor | None = None
        self.transformed: Tensor | None = None
        self._plain: Tensor | None = plain
        self._geometry = geometry
        self._channels = plain.shape[1] * geometry[3]
        self._packed_for = self._last = torch.Size([1, self._channels, *_PACKED_FOR])
        self._in_a_row = 0

    @property
    def plain(self) -> Tensor:
        """The weights [O, I / groups, k, k]."""
        if self._plain is None:
            self._plain = self._unpacked()
        return self._plain

    def copy(self) -> Tensor:
        """Return `plain`, without keeping it where it is not kept."""
        return self._unpacked() if self._plain is None else self._plain

    def pack(self) -> Tensor:
        """Return the weights in oneDNN's order, and forget them as they were."""
        packed = self.for_maps(self._packed_for)
        self._plain = None
        return packed

    def for_tiles(self) -> Tensor:
        """Return the weights for `ops.winograd`, four times as large as they are."""
        if self.transformed is None:
            self.transformed = winograd.transform_weight(self.copy())
        return self.transformed

    def for_maps(self, size: torch.Size) -> Tensor:
        """Return the weights in oneDNN's order.

        Args:
            size: [B, I, H, W] of the maps; any size has the same result.
        """
        self._in_a_row = self._in_a_row + 1 if size == self._last else 1
        self._last = size
        packed = self.packed
        if packed is None:
            packed = self.packed = self._in_order_for(self._packed_for)
        elif self._in_a_row >= _IN_A_ROW and size != self._packed_for:
            # Two threads may come here at once: both orders are right.
            packed = self.packed = self._in_order_for(size)
            self._packed_for = size
        return packed

    def _in_order_for(self, size: torch.Size) -> Tensor:
        plain = self._unpacked() if self._plain is None else self._plain
        reorder = torch.ops.mkldnn._reorder_convolution_weight
        return reorder(plain, *self._geometry, list(size))

    def _unpacked(self) -> Tensor:
        assert self.packed is not None
        return self.packed.to_dense()
