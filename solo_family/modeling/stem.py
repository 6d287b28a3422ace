"""Weights of a backbone that was trained on three colours, for input of other channels.

O output channels of the first convolution, C channels of the model's input, k the kernel's side.
"""

import logging
from collections.abc import Sequence

import torch
from detectron2.config import CfgNode
from torch import Tensor, nn

from ..pictures.formats import parse_format

logger = logging.getLogger("solo_family")

_THREE = 3


def colour_places(cfg: CfgNode) -> tuple[int, ...] | None:
    """Return where the colours are among the channels of `INPUT.FORMAT`, from the left."""
    colours = parse_format(cfg.INPUT.FORMAT).colours
    return None if colours is None else tuple(sorted(colours))


def first_convolution(model: nn.Module, channels: int) -> tuple[str, nn.Conv2d] | None:
    """Return the name and the first convolution of a model or a backbone.

    None if it has none, or one that does not take the image's channels.
    """
    prefix, part = "", model
    for name in ("backbone", "bottom_up"):
        if isinstance(inner := getattr(part, name, None), nn.Module):
            prefix, part = f"{prefix}{name}.", inner
    convolutions = (
        (name, module) for name, module in part.named_modules() if isinstance(module, nn.Conv2d)
    )
    name, first = next(convolutions, ("", None))
    if first is None or first.in_channels != channels:
        return None
    return prefix + name, first


def adapt_stem(weight: Tensor, channels: int, places: Sequence[int] | None = None) -> Tensor:
    """Return the weight of a first convolution for C channels instead of three.

    With more channels, the colours keep their kernels, and every other channel begins with the
    mean of these. With one or two, each has the mean, scaled so that the same value in all of them
    gives what it gave in all three.

    Args:
        weight: [O, 3, k, k].
        channels: C.
        places: of the three colours among the C channels, in the weight's order; None is 0, 1, 2.

    Returns:
        [O, C, k, k].
    """
    mean = weight.mean(dim=1, keepdim=True)
    if channels < _THREE:
        return mean.expand(-1, channels, -1, -1) * (_THREE / channels)
    adapted = mean.repeat(1, channels, 1, 1)
    adapted[:, list(places or range(_THREE))] = weight
    return adapted


def tell_adapted(name: str, channels: int) -> None:
    """Log that pretrained weights of a first convolution were adapted."""
    new = (
        f"the {channels - _THREE} new channels begin with the mean of the three colours' kernels"
        if channels > _THREE
        else "its channels begin with the mean of the three colours' kernels"
    )
    logger.warning(
        "The pretrained %s is of 3 channels, the model's of %d: %s.", name, channels, new
    )


def adapt_state(
    state: dict[str, Tensor], backbone: nn.Module, channels: int, places: Sequence[int] | None
) -> dict[str, Tensor]:
    """Return a checkpoint of three channels for a backbone of C, or itself where it fits.

    Args:
        state: with the backbone's own names.
        backbone: the backbone.
        channels: C.
        places: see `adapt_stem`.
    """
    found = first_convolution(backbone, channels)
    key = f"{found[0]}.weight" if found else ""
    if channels == _THREE or key not in state or state[key].shape[1:2] != torch.Size([_THREE]):
        return state
    tell_adapted(key, channels)
    return {**state, key: adapt_stem(state[key], channels, places)}
