"""Convolve on a GPU with the bias, the ReLU and the sum that follow, in one kernel.

torch adds a bias in a pass of its own over the result, and so it does for a ReLU and the sum of a
residual block, which take longer together than most convolutions. cuDNN does these while it writes.

B images, I input channels, O output channels, H W of a map.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .joined_conv import JoinedConv2d


class FusedConv2d(JoinedConv2d):
    """A convolution with which cuDNN applies what follows."""

    adds_in_place = False

    def convolve(self, x: Tensor) -> Tensor:
        """Convolve `x`, and apply `attribute`; see `JoinedConv2d`."""
        if self.fuses(x):
            if self.attribute == "relu":
                return convolve_and_relu(x, self)
            if self._is_product(x):
                return self.apply_attribute(self._product(x))
        return self.apply_attribute(self._conv_forward(x, self.weight, self.bias))

    def add_to_and_relu(self, other: Tensor, x: Tensor) -> Tensor:
        """Convolve `x`, add it to `other`, and apply a ReLU; see `JoinedConv2d`."""
        if self.fuses(x) and other.dtype == x.dtype:
            return convolve_add_and_relu(x, other, self)
        return self._conv_forward(x, self.weight, self.bias).add_(other).relu_()

    def fuses(self, x: Tensor) -> bool:
        """Return whether cuDNN may do what follows: its results have no gradients."""
        plain = not (torch.is_grad_enabled() or torch.is_autocast_enabled(x.device.type))
        return plain and x.dtype == self.weight.dtype and x.numel() > 0

    def _is_product(self, x: Tensor) -> bool:
        """Return whether a product of matrices is the same: cuBLAS adds the bias while it writes.

        In float32 torch's settings for products and convolutions differ.
        """
        pointwise = self.kernel_size == self.stride == (1, 1) and self.padding == (0, 0)
        half = x.dtype in (torch.float16, torch.bfloat16)
        last = x.is_contiguous(memory_format=torch.channels_last)
        return pointwise and half and last and self.groups == 1

    def _product(self, x: Tensor) -> Tensor:
        product = F.linear(x.permute(0, 2, 3, 1), self.weight.flatten(1), self.bias)
        return product.permute(0, 3, 1, 2)


def convolve_and_relu(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """Convolve `x`, [B, I, H, W], add the bias, and apply a ReLU, in one kernel."""
    padding: Any = conv.padding
    return torch.cudnn_convolution_relu(
        x, conv.weight, conv.bias, conv.stride, padding, conv.dilation, conv.groups
    )


def convolve_add_and_relu(x: Tensor, other: Tensor, conv: nn.Conv2d) -> Tensor:
    """Convolve `x`, add the bias and `other`, [B, O, H', W'], and apply a ReLU, in one kernel."""
    padding: Any = conv.padding
    return torch.cudnn_convolution_add_relu(
        x, conv.weight, other, 1.0, conv.bias, conv.stride, padding, conv.dilation, conv.groups
    )


def fusing_works(dtype: torch.dtype, device: torch.device) -> bool:
    """Return whether this GPU and its cuDNN convolve with what follows, and rightly."""
    return device.type == "cuda" and _fusing_works(dtype, device)


@lru_cache
def _fusing_works(dtype: torch.dtype, device: torch.device) -> bool:
    """Convolve small numbers, whose sums are exact in any order, and compare with torch's own."""
    # At most 144 + 16, which is exact in bfloat16, too.
    x = (torch.arange(2 * 16 * 6 * 5) * 7 % 3 - 1).view(2, 16, 6, 5).to(device, dtype)
    conv: Any = nn.Conv2d(16, 32, 3, padding=1)
    conv.weight.data = (torch.arange(32 * 16 * 9) * 5 % 7 % 3 - 1.0).view(32, 16, 3, 3)
    conv.bias.data = torch.arange(32.0) - 16
    last = torch.channels_last
    x, conv = x.to(memory_format=last), conv.to(device, dtype).to(memory_format=last)
    try:
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            expected = conv(x)
            found = convolve_and_relu(x, conv)
            summed = convolve_add_and_relu(x, expected, conv)
            return torch.equal(found, expected.relu()) and torch.equal(
                summed, (2 * expected).relu()
            )
    except (RuntimeError, AttributeError):  # a torch without cuDNN, or without these operators
        return False
