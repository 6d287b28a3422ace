"""Tell which maps have their channels last, and which of them kernels may be given."""

import math

import torch
from torch import Tensor

# Kernels count the values of an image in 32 bits.
MOST_VALUES = 2**31


def suits_kernels(*maps: Tensor) -> bool:
    """Return whether kernels that have no gradients can compute these maps, channels last.

    Tracers and compilers, which can't look into a kernel, get torch's own operations.

    Args:
        maps: tensors of any shape, dtype and device.
    """
    if torch.jit.is_tracing() or torch.compiler.is_compiling():
        return False
    if torch.is_grad_enabled() and any(x.requires_grad for x in maps):
        return False
    few = all(math.prod(x.shape[1:]) < MOST_VALUES for x in maps)
    return few and all(is_channels_last(x) and x.is_floating_point() for x in maps)


def is_channels_last(x: Tensor) -> bool:
    """Return whether a tensor of any shape is a map that has channels last, and no other order.

    A map of one channel or one pixel is in both orders at once.
    """
    last = x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)
    return last and not x.is_contiguous()
