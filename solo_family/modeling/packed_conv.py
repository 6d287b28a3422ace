"""Convolve on a CPU with weights that are packed once, instead of anew for every picture.

oneDNN, which torch convolves with on a CPU, needs weights in blocks that fit the processor, and
maps with the channels of a pixel together. Left to itself, torch packs all weights and reorders all
maps for every picture; a ReLU and the sum of a residual block are passes over memory of their own,
which oneDNN does while it writes.

B images, I input channels, O output channels, H W of a map.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from typing import Any, cast

import torch
import torch.nn.functional as F
from detectron2.layers import Conv2d
from detectron2.modeling.backbone.resnet import BasicBlock, BasicStem, BottleneckBlock
from torch import Tensor, nn

from .folding import FoldedNorm
from .layers import ConvNormReLU
from .packed_blocks import PackedBasicBlock, PackedBlock, PackedBottleneck, PackedStem
from .packed_weights import PackedWeights

# For maps of up to so many pixels, convolutions with 1 x 1 kernels in float32 are matrix products
# with the weights as they are. For most of them oneDNN wants the weights in another order than for
# large maps (see `PackedWeights`), and in the right order it is no faster than the product.
_FEW_PIXELS = 2048


class PackedConv2d(nn.Conv2d):
    """torch's or detectron2's convolution, for inference on a CPU, with packed weights.

    `pack` turns a convolution into this, in place, because some modules keep theirs in lists of
    their own.
    """

    norm: nn.Module | None
    activation: Any
    # What oneDNN does to a value before it writes it, and the numbers of that.
    attribute: str
    scalars: tuple[float, ...]
    packed: PackedWeights

    @staticmethod
    def pack(conv: nn.Conv2d) -> PackedConv2d:
        """Return the same object, whose norm and activation follow as in detectron2's."""
        weight = conv._parameters.pop("weight")
        assert weight is not None
        packed: Any = conv
        packed.__class__ = _PackedConv2dSame if _pads_as_tensorflow(conv) else PackedConv2d
        packed.norm = getattr(conv, "norm", None)
        packed.activation = getattr(conv, "activation", None)
        packed.attribute, packed.scalars = "none", ()
        if packed.norm is None and _is_relu(packed.activation):
            packed.attribute, packed.activation = "relu", None
        packed._pack(weight.detach())
        return packed

    def _pack(self, weight: Tensor) -> None:
        self.dtype = weight.dtype
        pointwise = self.kernel_size == (1, 1) and self.padding == (0, 0) and self.groups == 1
        self._multiplies = pointwise and weight.dtype == torch.float32
        geometry = self.padding, self.stride, self.dilation, self.groups
        self.__dict__["packed"] = PackedWeights(weight, geometry)
        if not self._multiplies:  # others are packed when the first large map comes
            self.packed.pack()

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """The weights [O, I / groups, k, k], for what computes with some of them only."""
        return self.packed.plain

    def forward(self, x: Tensor) -> Tensor:
        """Convolve `x`, [B, I, H, W]."""
        x = x.to(self.dtype)
        if self._is_small(x):
            x = self._activate(self._product(x))
        else:
            x = torch.ops.mkldnn._convolution_pointwise(
                *(x, self.packed.for_maps(x.shape), self.bias),
                *(self.padding, self.stride, self.dilation, self.groups),
                *(self.attribute, self.scalars, ""),
            )
        if self.norm is not None:
            x = self.norm(x)
        return x if self.activation is None else self.activation(x)

    def add_to_and_relu(self, other: Tensor, x: Tensor) -> Tensor:
        """Convolve `x`, add it to `other`, [B, O, H', W'], in place, and apply a ReLU."""
        other = other.contiguous(memory_format=torch.channels_last)
        if self._is_small(x):
            return other.add_(self._product(x)).relu_()
        return torch.ops.mkldnn._convolution_pointwise_.binary(
            *(other, x, self.packed.for_maps(x.shape), self.bias),
            *(self.padding, self.stride, self.dilation, self.groups),
            *("add", 1.0, "relu", [], None),
        )

    def _is_small(self, x: Tensor) -> bool:
        rows, columns = self.stride
        pixels = x.shape[0] * -(-x.shape[2] // rows) * -(-x.shape[3] // columns)
        return self._multiplies and pixels <= _FEW_PIXELS

    def _product(self, x: Tensor) -> Tensor:
        """Convolve `x`, [B, I, H, W], with a 1 x 1 kernel: a row of a matrix is a pixel."""
        rows, columns = self.stride
        pixels = x[:, :, ::rows, ::columns].permute(0, 2, 3, 1)
        product = F.linear(pixels, self.weight.flatten(1), self.bias)
        return product.permute(0, 3, 1, 2)

    def _activate(self, x: Tensor) -> Tensor:
        if self.attribute == "relu":
            return x.relu_()
        return x.clamp_(*self.scalars) if self.attribute == "hardtanh" else x

    # Packed weights can be neither copied nor written.
    def __getstate__(self) -> dict[str, Any]:
        state = {k: v for k, v in self.__dict__.items() if k != "packed"}
        return {**state, "weight": self.weight}

    def __setstate__(self, state: dict[str, Any]) -> None:
        weight = state.pop("weight")
        super().__setstate__(state)
        self._pack(weight)

    def _apply(self, fn: Any, recurse: bool = True) -> PackedConv2d:
        weight = fn(self.weight)
        if weight.device.type != "cpu":
            raise RuntimeError(
                "This model was prepared for inference on a CPU; it can't be moved. Prepare it "
                "where it is to run: MODEL.DEVICE, or `device` of Predictor."
            )
        super()._apply(fn, recurse)
        self._pack(weight)
        return self


class _PackedConv2dSame(PackedConv2d):
    """timm's Conv2dSame: as many outputs as strides fit; where padding is odd, there is more after.

    Its own padding is 0.
    """

    def forward(self, x: Tensor) -> Tensor:
        padding: list[int] = []
        for dim in (1, 0):  # columns first, as `pad` has it
            size, stride = x.shape[2 + dim], self.stride[dim]
            reach = self.dilation[dim] * (self.kernel_size[dim] - 1) + 1
            total = max(0, (-(-size // stride) - 1) * stride + reach - size)
            padding += [total // 2, total - total // 2]
        return super().forward(F.pad(x, padding))


def pack_convolutions(model: nn.Module) -> None:
    """Replace a model's convolutions by packed ones, with ReLU and sums of ResNets, in place.

    Args:
        model: on a CPU, in evaluation mode, without gradients; of one dtype.
    """
    for module in list(model.modules()):
        known = type(module) in (nn.Conv2d, Conv2d) or _pads_as_tensorflow(module)
        if known and _can_pack(module):
            PackedConv2d.pack(cast(nn.Conv2d, module))
    for module in model.modules():
        _join_relu(module)
        _join_folded(module)
        _join_block(module)
    for module in model.modules():
        _overwrite_between_blocks(module)


def packing_works(dtype: torch.dtype, device: torch.device) -> bool:
    """Return whether this processor and this torch convolve with packed weights, and rightly."""
    return device.type == "cpu" and _packing_works(dtype)


@lru_cache
def _packing_works(dtype: torch.dtype) -> bool:
    """Convolve small numbers, whose sums are exact in any order, and compare with torch's own."""
    # At most 144 + 16, which is exact in bfloat16, too.
    x = (torch.arange(2 * 16 * 6 * 5) * 7 % 3 - 1).view(2, 16, 6, 5).to(dtype)
    conv: Any = nn.Conv2d(16, 32, 3, padding=1)
    conv.weight.data = (torch.arange(32 * 16 * 9) * 5 % 7 % 3 - 1.0).view(32, 16, 3, 3)
    conv.bias.data = torch.arange(32.0) - 16
    try:
        with torch.no_grad():
            expected = conv(x.float())
            packed = PackedConv2d.pack(conv.to(dtype))
            found = packed(x).float()
            summed = packed.add_to_and_relu(expected.to(dtype, copy=True), x).float()
    except (RuntimeError, AttributeError):  # a torch without oneDNN, or without these operators
        return False
    return torch.equal(found, expected) and torch.equal(summed, (2 * expected).relu())


def _can_pack(conv: Any) -> bool:
    plain = conv.padding_mode == "zeros" and not isinstance(conv.padding, str)
    hooked = conv._forward_pre_hooks or conv._forward_hooks or hasattr(conv, "parametrizations")
    return plain and not hooked


def _pads_as_tensorflow(module: nn.Module) -> bool:
    """Go by the name: importing timm takes longer than preparing a small model."""
    return type(module).__name__ == "Conv2dSame"


def _is_relu(activation: Any) -> bool:
    if isinstance(activation, nn.Module):
        return type(activation) is nn.ReLU
    return activation in (F.relu, F.relu_, torch.relu, torch.relu_)


def _join_relu(module: Any) -> None:
    """Join ReLUs to the convolutions before them, in modules that are known to apply both."""
    kind = type(module)
    if kind is ConvNormReLU and module.norm is None and _is_bare(module.conv):
        module.conv.attribute = "relu"
        module.__class__ = _PackedConvReLU
    if kind is nn.Sequential:
        for (_, conv), (name, relu) in pairwise(list(module._modules.items())):
            if _is_bare(conv) and _is_relu(relu):
                conv.attribute = "relu"
                module._modules[name] = nn.Identity()


def _join_folded(module: Any) -> None:
    """Join the activation of a folded norm of timm's, a ReLU or ReLU6, to its convolution."""
    conv: Any = module.conv if type(module) is FoldedNorm else None
    if not _is_bare(conv):
        return
    act = module._modules.get("act")
    if type(act) is nn.ReLU6:
        conv.attribute, conv.scalars = "hardtanh", (act.min_val, act.max_val)
    elif _is_relu(act):
        conv.attribute = "relu"
    else:
        return
    del module._modules["act"]


def _is_bare(conv: Any) -> bool:
    """Return whether a module is a packed convolution that nothing follows."""
    if not isinstance(conv, PackedConv2d) or conv.norm is not None:
        return False
    return conv.activation is None and conv.attribute == "none"


def _join_block(block: nn.Module) -> None:
    """Join the ReLUs and the sum of detectron2's residual blocks and stem to its convolutions."""
    packed = {
        BasicStem: (PackedStem, ("conv1",)),
        BasicBlock: (PackedBasicBlock, ("conv1", "conv2")),
        BottleneckBlock: (PackedBottleneck, ("conv1", "conv2", "conv3")),
    }.get(type(block))
    if packed is None or not all(_is_bare(getattr(block, name)) for name in packed[1]):
        return
    block.__class__ = packed[0]
    for name in packed[1] if type(block) is PackedStem else packed[1][:-1]:
        getattr(block, name).attribute = "relu"


def _overwrite_between_blocks(stage: Any) -> None:
    """Let all blocks of a stage but the first overwrite their inputs, which nothing else reads.

    The first one's input is the result of the stage before, which may be a feature.
    """
    blocks: list[Any] = list(stage.children()) if type(stage) is nn.Sequential else []
    if all(isinstance(block, PackedBlock) for block in blocks):
        for block in blocks[1:]:
            block.overwrites = True


class _PackedConvReLU(ConvNormReLU):
    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)
