"""Tell which maps kernels for maps with channels last may be given."""

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
    return all(_is_channels_last(x) for x in maps)


def _is_channels_last(x: Tensor) -> bool:
    last = x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)
    few = x.dim() == 4 and x.shape[1] * x.shape[2] * x.shape[3] < MOST_VALUES
    return last and few and not x.is_contiguous() and x.is_floating_point()
