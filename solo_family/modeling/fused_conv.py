"""Convolve on a GPU with the bias, the ReLU and the sum that follow, in one kernel.

torch adds a bias in a pass of its own over the result, and so it does for a ReLU and the sum of a
residual block, which take longer together than most convolutions. cuDNN does these while it writes.

B images, I input channels, O output channels, H W of a map.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..ops.gpu_kernels import may_wait, waits_allowed
from ..ops.gpu_memory import lacks_memory
from .joined_conv import JoinedConv2d, exact_convolution

logger = logging.getLogger(__name__)

Result = Callable[[], Tensor]

# Blocks of PyTorch's allocator begin at multiples of so many bytes.
_BLOCK = 512
# What was said of convolutions that are not fused: it is said once.
_said: list[str] = []
# After so many comparisons without an answer, a size is not fused.
_TRIES = 3


class FusedConv2d(JoinedConv2d):
    """A convolution with which cuDNN applies what follows."""

    adds_in_place = False

    def convolve(self, x: Tensor) -> Tensor:
        """Convolve `x`, and apply `attribute`; see `JoinedConv2d`."""
        if self.attribute == "relu" and self.fuses(x):
            fused = partial(convolve_and_relu, x, self)
            return self.trusted(x, fused, partial(self.convolve_plainly, x))
        if self._is_product(x):
            return self.apply_attribute(self._product(x))
        return self.convolve_plainly(x)

    def convolve_plainly(self, x: Tensor) -> Tensor:
        """Convolve `x`, and apply `attribute` in a pass of its own."""
        return self.apply_attribute(self._conv_forward(x, self.weight, self.bias))

    def add_to_and_relu(self, other: Tensor, x: Tensor) -> Tensor:
        """Convolve `x`, add it to `other`, and apply a ReLU; see `JoinedConv2d`."""

        def plain() -> Tensor:
            return self._conv_forward(x, self.weight, self.bias).add_(other).relu_()

        if self.fuses(x) and other.dtype == x.dtype:
            return self.trusted(x, partial(convolve_add_and_relu, x, other, self), plain)
        return plain()

    def fuses(self, x: Tensor) -> bool:
        """Return whether cuDNN may do what follows: its results have no gradients.

        Channels must be multiples of 8, or the three of an image: a model with 4 was seen to find
        fewer objects.
        """
        if torch.is_grad_enabled() or torch.is_autocast_enabled(x.device.type):
            return False
        usual = self.out_channels % 8 == 0 and (self.in_channels % 8 == 0 or self.in_channels == 3)
        return usual and self.groups == 1 and x.dtype == self.weight.dtype and x.numel() > 0

    def trusted(self, x: Tensor, fused: Result, plain: Result) -> Tensor:
        """Return `plain()`; or `fused()`, once the two have agreed for this size of `x`.

        Which kernel cuDNN takes depends on sizes. They are compared when a size comes for the
        second time: for images of ever new sizes comparing would cost more than it gains.
        """
        answers: dict[Any, bool | int] = self.__dict__.setdefault("_answers", {})
        key = tuple(x.shape), x.dtype, x.device
        answer = answers.get(key, 0)
        if answer is True:
            return self._fused_or(plain, fused, x)
        expected = plain()
        if answer is False or not may_wait(x.device):
            return expected
        if answer == 0:
            answers[key] = 1
            return expected
        found: bool | None = False
        try:
            with waits_allowed(x.device):
                found = is_right(fused, expected)
        except RuntimeError as error:
            # A comparison takes more memory than inference; or cuDNN has no kernel for this size.
            found = None if lacks_memory(error) else False
        answers[key] = found if found is not None else (answer + 1 if answer < _TRIES else False)
        if answers[key] is False:
            _say_once(self, x)
        return expected

    def _fused_or(self, plain: Result, fused: Result, x: Tensor) -> Tensor:
        try:
            return fused()
        except RuntimeError:
            # Memory may be short for cuDNN now; what is recorded can't go on after an error.
            if not may_wait(x.device):
                raise
            return plain()

    def __getstate__(self) -> dict[str, Any]:
        # The answers are those of a GPU.
        return {name: value for name, value in self.__dict__.items() if name != "_answers"}

    def _is_product(self, x: Tensor) -> bool:
        """Return whether a product of matrices is the same: cuBLAS adds the bias while it writes.

        In float32 torch's settings for products and convolutions differ.
        """
        pointwise = self.kernel_size == self.stride == (1, 1) and self.padding == (0, 0)
        half = x.dtype == self.weight.dtype and x.dtype in (torch.float16, torch.bfloat16)
        last = x.is_contiguous(memory_format=torch.channels_last)
        return pointwise and half and last and self.groups == 1

    def _product(self, x: Tensor) -> Tensor:
        product = F.linear(x.permute(0, 2, 3, 1), self.weight.flatten(1), self.bias)
        return product.permute(0, 3, 1, 2)


def _say_once(conv: nn.Conv2d, x: Tensor) -> None:
    kinds = f"{conv.in_channels} to {conv.out_channels} channels, {tuple(conv.kernel_size)}"
    if not _said:
        _said.append(kinds)
        logger.info(
            "cuDNN's convolution with what follows is not used for some maps, of %s at first and "
            "%s: its results differ from torch's, or could not be compared. torch computes these, "
            "more slowly.",
            kinds,
            tuple(x.shape),
        )


def is_right(fused: Result, expected: Tensor) -> bool | None:
    """Return whether a function returns the expected values, up to rounding.

    `cudnn_convolution_relu` adds the memory of its result, which nobody has written yet, with a
    factor of 0. That memory is filled with NaN here, so that a kernel which reads it is found out.

    Args:
        fused: returns a map.
        expected: of the same size and dtype. If there are infinite values or NaN among these, there
            is no answer; nor if the result came to lie elsewhere.
    """
    if not expected.isfinite().all():
        return None
    # PyTorch gives the memory of these to what is allocated next.
    filled = [torch.full_like(expected, math.nan) for _ in range(3)]
    ranges = _merged([_range_of(one) for one in filled])
    del filled
    found = fused()
    start, end = _range_of(found)
    if found.is_cuda and not any(first <= start and end <= last for first, last in ranges):
        return None
    most = float(expected.abs().max())
    unit = 2 * torch.finfo(expected.dtype).eps if expected.dtype != torch.float32 else 2**-9
    return bool(((found - expected).abs() <= 2 * unit * most).all())


def _range_of(tensor: Tensor) -> tuple[int, int]:
    """Return the addresses of a tensor's first byte, and of that after the last."""
    return tensor.data_ptr(), tensor.data_ptr() + tensor.numel() * tensor.element_size()


def _merged(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Join ranges with less than a block of PyTorch's allocator between them."""
    joined: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if joined and first - joined[-1][1] < _BLOCK:
            joined[-1] = joined[-1][0], last
        else:
            joined.append((first, last))
    return joined


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
    """Compare with torch's own convolution where both are exact."""
    last = torch.channels_last
    x, conv = exact_convolution()
    x = x.to(device, dtype).to(memory_format=last)
    conv = conv.to(device, dtype).to(memory_format=last)
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
