"""Convolve on a CPU with weights that are packed once, instead of anew for every picture.

oneDNN, which torch convolves with on a CPU, needs weights in blocks that fit the processor, and
maps with the channels of a pixel together. Left to itself, torch packs all weights and reorders all
maps for every picture.

B images, I input channels, O output channels, H W of a map.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, cast

import torch
import torch.nn.functional as F
from detectron2.layers import Conv2d
from torch import Tensor, nn

from ..ops import winograd
from .joined_conv import JoinedConv2d, can_join, exact_convolution, join_what_follows
from .packed_weights import PackedWeights

# For maps of up to so many pixels, convolutions with 1 x 1 kernels in float32 are matrix products
# with the weights as they are. For most of them oneDNN wants the weights in another order than for
# large maps (see `PackedWeights`), and in the right order it is no faster than the product.
_FEW_PIXELS = 2048
# Convolutions with 3 x 3 kernels of so many channels, of both sides, and of maps with so many tiles
# are computed in Winograd's tiles (docs/performance.md), on processors whose products of matrices
# are known to be as fast as oneDNN.
_TILED_CHANNELS, _FEWEST_TILES = 256, 16
_TILED_CPUS = ("AVX2", "AVX512")


class PackedConv2d(JoinedConv2d):
    """A convolution with packed weights; what follows it, oneDNN applies."""

    adds_in_place = True
    packed: PackedWeights

    @classmethod
    def take(cls, conv: nn.Conv2d) -> PackedConv2d:
        """Return the same object; see `JoinedConv2d.take`."""
        weight = conv._parameters.pop("weight")
        assert weight is not None
        kind = _PackedConv2dSame if _pads_as_tensorflow(conv) else PackedConv2d
        packed: PackedConv2d = super(PackedConv2d, kind).take(conv)
        packed._pack(weight.detach())
        return packed

    def _pack(self, weight: Tensor) -> None:
        self.dtype = weight.dtype
        pointwise = self.kernel_size == (1, 1) and self.padding == (0, 0) and self.groups == 1
        self._multiplies = pointwise and weight.dtype == torch.float32
        # Words for the padding are refused by `can_join`.
        padding = cast(tuple[int, int], self.padding)
        geometry = padding, self.stride, self.dilation, self.groups
        self.__dict__["packed"] = PackedWeights(weight, geometry)
        wide = min(weight.shape[:2]) >= _TILED_CHANNELS
        known = torch.backends.cpu.get_cpu_capability() in _TILED_CPUS
        self._has_tiles = wide and known and winograd.suits(weight, geometry)
        self._border = padding[0]
        # Others are packed when the first map comes that needs them.
        if not self._multiplies and not self._has_tiles:
            self.packed.pack()

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """The weights [O, I / groups, k, k], for what computes with some of them only."""
        return self.packed.plain

    def convolve(self, x: Tensor) -> Tensor:
        """Convolve `x`, and apply `attribute`; see `JoinedConv2d`."""
        x = x.to(self.dtype)
        products = self._products(x)
        if products is not None:
            return self.apply_attribute(products)
        result: Tensor = torch.ops.mkldnn._convolution_pointwise(
            *(x, self.packed.for_maps(x.shape), self.bias),
            *(self.padding, self.stride, self.dilation, self.groups),
            *(self.attribute, self.scalars, ""),
        )
        return result

    def add_to_and_relu(self, other: Tensor, x: Tensor) -> Tensor:
        """Convolve `x`, add it to `other`, [B, O, H', W'], in place, and apply a ReLU."""
        other = other.contiguous(memory_format=torch.channels_last)
        products = self._products(x)
        if products is not None:
            return other.add_(products).relu_()
        return torch.ops.mkldnn._convolution_pointwise_.binary(
            *(other, x, self.packed.for_maps(x.shape), self.bias),
            *(self.padding, self.stride, self.dilation, self.groups),
            *("add", 1.0, "relu", [], None),
        )

    def _products(self, x: Tensor) -> Tensor | None:
        """Convolve `x`, [B, I, H, W], by products of matrices, or return None for oneDNN."""
        if self._is_small(x):
            return self._product(x)
        if self._is_tiled(x):
            return winograd.convolve(x, self.packed.for_tiles(), self.bias, self._border)
        return None

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

    def _is_tiled(self, x: Tensor) -> bool:
        # Tiles have no gradient, and autocast would compute their products in bfloat16, with
        # several times the error of a convolution in bfloat16.
        if not self._has_tiles or torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"):
            return False
        # By the tiles of one image: its results do not depend on how many there are.
        return winograd.count_tiles(x[:1], self._border) >= _FEWEST_TILES

    # Packed weights can be neither copied nor written.
    def __getstate__(self) -> dict[str, Any]:
        state = {k: v for k, v in self.__dict__.items() if k != "packed"}
        return {**state, "weight": self.packed.copy()}

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
        if weight.dtype != self.dtype:
            raise RuntimeError(
                f"This model was prepared for inference with weights of {self.dtype}, which can't "
                f"become {weight.dtype}. Choose when it is prepared: MODEL.INFERENCE.PRECISION, or "
                "`precision` of Predictor."
            )
        super()._apply(fn, recurse)
        self._pack(weight)
        return self


class _PackedConv2dSame(PackedConv2d):
    """timm's Conv2dSame: as many outputs as strides fit; where padding is odd, there is more after.

    Its own padding is 0.
    """

    def convolve(self, x: Tensor) -> Tensor:
        padding: list[int] = []
        for dim in (1, 0):  # columns first, as `pad` has it
            size, stride = x.shape[2 + dim], self.stride[dim]
            reach = self.dilation[dim] * (self.kernel_size[dim] - 1) + 1
            total = max(0, (-(-size // stride) - 1) * stride + reach - size)
            padding += [total // 2, total - total // 2]
        return super().convolve(F.pad(x, padding))


def pack_convolutions(model: nn.Module) -> None:
    """Replace a model's convolutions by packed ones, with ReLU and sums of ResNets, in place.

    Args:
        model: on a CPU, in evaluation mode, without gradients; of one dtype.
    """
    for module in list(model.modules()):
        known = type(module) in (nn.Conv2d, Conv2d) or _pads_as_tensorflow(module)
        if known and can_join(module):
            PackedConv2d.take(cast(nn.Conv2d, module))
    join_what_follows(model)


def packing_works(dtype: torch.dtype, device: torch.device) -> bool:
    """Return whether this processor and this torch convolve with packed weights, and rightly."""
    return device.type == "cpu" and _packing_works(dtype)


@lru_cache
def _packing_works(dtype: torch.dtype) -> bool:
    """Compare with torch's own convolution where both are exact."""
    x, conv = exact_convolution()
    try:
        with torch.no_grad():
            expected = conv(x)
            x = x.to(dtype)
            packed = PackedConv2d.take(conv.to(dtype))
            found = packed(x).float()
            summed = packed.add_to_and_relu(expected.to(dtype, copy=True), x).float()
    except (RuntimeError, AttributeError):  # a torch without oneDNN, or without these operators
        return False
    return torch.equal(found, expected) and torch.equal(summed, (2 * expected).relu())


def _pads_as_tensorflow(module: nn.Module) -> bool:
    """Go by the name: importing timm takes longer than preparing a small model."""
    return type(module).__name__ == "Conv2dSame"
