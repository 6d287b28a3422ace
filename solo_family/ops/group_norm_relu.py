"""Group normalization with a ReLU, for inference on a GPU with channels last.

B images; C channels; G groups; H W of a map.
"""

from __future__ import annotations

import torch
from torch import Tensor

from . import gpu_kernels
from .channels_last import suits_kernels

# Channels of a group for which the kernels have registers.
_MOST_CHANNELS = 512


def group_norm_relu(
    x: Tensor,
    num_groups: int,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    relu: bool = False,
) -> Tensor:
    """Normalise groups of channels as `torch.nn.functional.group_norm` does; apply a ReLU if asked.

    torch's own kernels normalise a map with channels last on a contiguous copy, and return it
    contiguous. These return the order that they are given, and compute in float32.

    Args:
        x: floating-point [B, C, H, W].
        num_groups: G, a divisor of C.
        weight: [C], or None.
        bias: [C], or None.
        eps: is added to the variance.
        relu: whether to apply a ReLU.

    Returns:
        [B, C, H, W], of the dtype and the order in memory of `x`.
    """
    few = x.shape[1] // num_groups <= _MOST_CHANNELS
    if few and suits_kernels(x) and gpu_kernels.runs("group_norm", x):
        # Not every machine has Triton.
        from .group_norm_triton import group_norm_triton

        return group_norm_triton(x, num_groups, weight, bias, eps, relu)
    result = torch.group_norm(x, num_groups, weight, bias, eps)
    if x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last):
        result = result.contiguous(memory_format=torch.channels_last)
    return result.relu_() if relu else result
