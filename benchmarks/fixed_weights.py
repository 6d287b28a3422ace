"""Weights that two implementations of a model can share without any training."""

from __future__ import annotations

import zlib

import torch
from torch import Tensor, nn

# Buffers that are constants of the model, not weights.
_CONSTANTS = ("pixel_", "empty_weight")


def fill(model: nn.Module, biases: dict[str, float]) -> dict[str, Tensor]:
    """Fill a model with weights that depend on nothing but each parameter's name and shape.

    Their sizes keep activations of a ResNet finite and of ordinary size through all layers.

    Args:
        model: changed in place.
        biases: the value of all biases whose name contains a key, for instance of the class
            logits, which decides how many objects are found.

    Returns:
        A copy of the filled state dict on the CPU.
    """
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if value.is_floating_point() and not any(part in name for part in _CONSTANTS):
                value.copy_(_values(name, value.shape))
                for part, bias in biases.items():
                    if part in name and name.endswith("bias"):
                        value.fill_(bias)
    return {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}


def _values(name: str, shape: torch.Size) -> Tensor:
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    noise = torch.randn(shape, generator=generator)
    if "running_var" in name:
        return 1 + 0.1 * noise.abs()
    if "running_mean" in name:
        return 0.05 * noise
    if len(shape) >= 2:
        return noise * (1.5 / shape[1:].numel()) ** 0.5
    if "conv3.norm.weight" in name:
        # The last norm of a residual block: its branch stays small beside the identity.
        return 0.2 + 0.02 * noise
    return 1 + 0.1 * noise if name.endswith("weight") else 0.05 * noise
