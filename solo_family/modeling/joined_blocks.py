"""detectron2's residual blocks and stem, whose ReLUs and sums are those of `JoinedConv2d`.

A block takes a map, [B, I, H, W], and returns one, [B, O, H', W'], as detectron2's does.
"""

from __future__ import annotations

from typing import Any

from detectron2.modeling.backbone.resnet import BasicBlock, BasicStem, BottleneckBlock
from torch import Tensor

from ..ops.max_pool import max_pool


class JoinedStem(BasicStem):
    """The stem; its convolution applies the ReLU."""

    def forward(self, x: Tensor) -> Tensor:
        """Convolve and pool `x`."""
        return max_pool(self.conv1(x))


class JoinedBlock:
    """The shortcut of a residual block, to which its last convolution adds, perhaps in place.

    Attributes:
        overwrites: whether the input may be passed on without a copy.
    """

    overwrites = False
    shortcut: Any

    def shortcut_of(self, x: Tensor) -> Tensor:
        """Return what the last convolution may add to."""
        if self.shortcut is not None:
            return self.shortcut(x)
        return x if self.overwrites or not self.last.adds_in_place else x.clone()

    @property
    def last(self) -> Any:
        """The convolution that adds to the shortcut."""
        raise NotImplementedError


class JoinedBasicBlock(JoinedBlock, BasicBlock):
    """A block of two convolutions."""

    conv1: Any
    conv2: Any

    @property
    def last(self) -> Any:
        """The convolution that adds."""
        return self.conv2

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block to `x`, which it may overwrite."""
        out = self.conv1(x)
        return self.conv2.add_to_and_relu(self.shortcut_of(x), out)


class JoinedBottleneck(JoinedBlock, BottleneckBlock):
    """A block of three convolutions."""

    conv1: Any
    conv2: Any
    conv3: Any

    @property
    def last(self) -> Any:
        """The convolution that adds."""
        return self.conv3

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block to `x`, which it may overwrite."""
        out = self.conv2(self.conv1(x))
        return self.conv3.add_to_and_relu(self.shortcut_of(x), out)
