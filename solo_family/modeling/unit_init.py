"""Scale random weights so that no layer begins with large values. Ours.

A layer without a norm hands on the scale of its inputs, and features of some backbones are large.
As in layer-sequential unit-variance initialisation (Mishkin and Matas, ICLR 2016, arXiv 1511.06422)
each layer is divided by the standard deviation of its outputs, one after another; but only where
that is above 1, because last layers begin with small values on purpose.
"""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Of the image that is looked at.
_SIDE = 256
_SEED = 0


@torch.no_grad()
def scale_to_unit_deviation(part: nn.Module, run: Callable[[], Any]) -> None:
    """Divide the weights of a part's convolutions and linear layers, in place.

    Args:
        part: holds the layers.
        run: computes the outputs of all of them, in order.
    """
    seen: set[nn.Module] = set()

    def divide(layer: Any, _: Any, output: Tensor) -> Tensor | None:
        if layer in seen:  # a layer of several maps is divided by the first one's deviation
            return None
        seen.add(layer)
        bias = 0 if layer.bias is None else _along_channels(layer)
        deviation = (output - bias).std()
        if not deviation > 1:  # also if there are too few values
            return None
        layer.weight.div_(deviation)
        return (output - bias) / deviation + bias

    with ExitStack() as stack:
        for layer in part.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                stack.callback(layer.register_forward_hook(divide).remove)
        run()


def _along_channels(layer: Any) -> Tensor:
    bias: Tensor = layer.bias
    return bias[:, None, None] if type(layer) is not nn.Linear else bias


def natural_noise(channels: int) -> Tensor:
    """Return a normalised image whose details are as strong as its large parts.

    Returns:
        float32 [1, channels, 256, 256], of mean 0 and deviation 1, always the same.
    """
    generator = torch.Generator().manual_seed(_SEED)
    image, side = torch.zeros(1, channels, _SIDE, _SIDE), 2
    while side <= _SIDE:
        noise = torch.randn(1, channels, side, side, generator=generator)
        image += F.interpolate(noise, size=(_SIDE, _SIDE), mode="bilinear")
        side *= 2
    return (image - image.mean()) / image.std()
