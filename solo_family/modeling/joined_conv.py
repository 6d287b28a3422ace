"""Let convolutions apply the ReLUs and sums that follow them, in models prepared for inference.

A ReLU, a bias and the sum of a residual block are passes over memory of their own, which the
libraries that convolve can do while they write.

B images, I input channels, O output channels, H W of a map.
"""

from __future__ import annotations

from abc import abstractmethod
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.modeling.backbone.resnet import BasicBlock, BasicStem, BottleneckBlock
from torch import Tensor, nn

from .folding import FoldedNorm
from .joined_blocks import JoinedBasicBlock, JoinedBlock, JoinedBottleneck, JoinedStem
from .layers import ConvNormReLU


class JoinedConv2d(nn.Conv2d):
    """torch's or detectron2's convolution, for inference, with what follows it.

    `take` turns a convolution into this, in place, because some modules keep theirs in lists of
    their own.
    """

    norm: nn.Module | None
    activation: Any
    # What is done to a value before it is written ("none", "relu" or "hardtanh"), and the numbers
    # of that.
    attribute: str
    scalars: tuple[float, ...]
    # Whether `add_to_and_relu` overwrites what it adds to.
    adds_in_place: bool

    @classmethod
    def take(cls, conv: nn.Conv2d) -> Any:
        """Return the same object, whose norm and activation follow as in detectron2's."""
        joined: Any = conv
        joined.__class__ = cls
        joined.norm = getattr(conv, "norm", None)
        joined.activation = getattr(conv, "activation", None)
        joined.attribute, joined.scalars = "none", ()
        if joined.norm is None and is_relu(joined.activation):
            joined.attribute, joined.activation = "relu", None
        return joined

    @abstractmethod
    def convolve(self, x: Tensor) -> Tensor:
        """Convolve `x`, [B, I, H, W], and apply `attribute`."""

    @abstractmethod
    def add_to_and_relu(self, other: Tensor, x: Tensor) -> Tensor:
        """Convolve `x`, add it to `other`, [B, O, H', W'], and apply a ReLU."""

    def forward(self, x: Tensor) -> Tensor:
        """Convolve `x`, [B, I, H, W], and apply what follows."""
        x = self.convolve(x)
        if self.norm is not None:
            x = self.norm(x)
        return x if self.activation is None else self.activation(x)

    def apply_attribute(self, x: Tensor) -> Tensor:
        """Apply `attribute` to a result, in place."""
        if self.attribute == "relu":
            return x.relu_()
        return x.clamp_(*self.scalars) if self.attribute == "hardtanh" else x


def join_what_follows(model: nn.Module) -> None:
    """Join ReLUs, and the sums of ResNets, to a model's `JoinedConv2d`, in place."""
    for module in model.modules():
        _join_relu(module)
        _join_folded(module)
        _join_block(module)
    for module in model.modules():
        _overwrite_between_blocks(module)


def can_join(conv: Any) -> bool:
    """Return whether a convolution computes what its attributes say, and nothing else."""
    plain = conv.padding_mode == "zeros" and not isinstance(conv.padding, str)
    hooked = conv._forward_pre_hooks or conv._forward_hooks or hasattr(conv, "parametrizations")
    return plain and not hooked


def is_relu(activation: Any) -> bool:
    """Return whether an activation, a module or a function, is a ReLU."""
    if isinstance(activation, nn.Module):
        return type(activation) is nn.ReLU
    return activation in (F.relu, F.relu_, torch.relu, torch.relu_)


def _join_relu(module: Any) -> None:
    """Join ReLUs to the convolutions before them, in modules that are known to apply both."""
    kind = type(module)
    if kind is ConvNormReLU and module.norm is None and is_bare(module.conv):
        module.conv.attribute = "relu"
        module.__class__ = _JoinedConvReLU
    if kind is nn.Sequential:
        for (_, conv), (name, relu) in pairwise(list(module._modules.items())):
            if is_bare(conv) and is_relu(relu):
                conv.attribute = "relu"
                # Not in training mode, which would forbid CUDA graphs.
                module._modules[name] = nn.Identity().eval()


def _join_folded(module: Any) -> None:
    """Join the activation of a folded norm of timm's, a ReLU or ReLU6, to its convolution."""
    conv: Any = module.conv if type(module) is FoldedNorm else None
    if not is_bare(conv):
        return
    act = module._modules.get("act")
    if type(act) is nn.ReLU6:
        conv.attribute, conv.scalars = "hardtanh", (act.min_val, act.max_val)
    elif is_relu(act):
        conv.attribute = "relu"
    else:
        return
    del module._modules["act"]


def is_bare(conv: Any) -> bool:
    """Return whether a module is a joined convolution that nothing follows."""
    if not isinstance(conv, JoinedConv2d) or conv.norm is not None:
        return False
    return conv.activation is None and conv.attribute == "none"


def _join_block(block: nn.Module) -> None:
    """Join the ReLUs and the sum of detectron2's residual blocks and stem to its convolutions."""
    joined = {
        BasicStem: (JoinedStem, ("conv1",)),
        BasicBlock: (JoinedBasicBlock, ("conv1", "conv2")),
        BottleneckBlock: (JoinedBottleneck, ("conv1", "conv2", "conv3")),
    }.get(type(block))
    if joined is None or not all(is_bare(getattr(block, name)) for name in joined[1]):
        return
    block.__class__ = joined[0]
    for name in joined[1] if type(block) is JoinedStem else joined[1][:-1]:
        getattr(block, name).attribute = "relu"


def _overwrite_between_blocks(stage: Any) -> None:
    """Let all blocks of a stage but the first overwrite their inputs, which nothing else reads.

    The first one's input is the result of the stage before, which may be a feature.
    """
    blocks: list[Any] = list(stage.children()) if type(stage) is nn.Sequential else []
    if all(isinstance(block, JoinedBlock) for block in blocks):
        for block in blocks[1:]:
            block.overwrites = True


class _JoinedConvReLU(ConvNormReLU):
    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


def exact_convolution() -> tuple[Tensor, Any]:
    """Return maps, float32 [2, 16, 6, 5], and a convolution of them with a bias.

    All are small whole numbers, whose sums are exact in any order: at most 144 + 16, which is exact
    in bfloat16, too.
    """
    x = (torch.arange(2 * 16 * 6 * 5) * 7 % 3 - 1.0).view(2, 16, 6, 5)
    conv: Any = nn.Conv2d(16, 32, 3, padding=1)
    conv.weight.data = (torch.arange(32 * 16 * 9) * 5 % 7 % 3 - 1.0).view(32, 16, 3, 3)
    conv.bias.data = torch.arange(32.0) - 16
    return x, conv
