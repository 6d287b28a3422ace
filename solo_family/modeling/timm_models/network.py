"""Build timm's models as functions from images to a list of feature maps."""

from collections.abc import Mapping, Sequence
from typing import Any

import timm
import torch
from timm.models._features import FeatureGetterNet
from torch import Tensor, nn

from . import hiera, swin


def build_features(
    name: str,
    options: Mapping[str, Any],
    out_indices: Sequence[int],
    *,
    pretrained: bool = False,
) -> nn.Module:
    """Return a model that gives features at several strides.

    Args:
        name: timm's name.
        options: timm's arguments.
        out_indices: which features, from 0, the finest.
        pretrained: whether to download its weights.
    """
    model = timm.create_model(
        name, pretrained, features_only=True, out_indices=tuple(out_indices), **options
    )
    return _for_any_size(model)


def build_last_map(
    name: str, options: Mapping[str, Any], *, norm: bool, pretrained: bool = False
) -> nn.Module:
    """Return a plain transformer that gives the map after its last block.

    Args:
        name: timm's name.
        options: timm's arguments.
        norm: whether to apply the model's last norm. Weights are pretrained with it.
        pretrained: whether to download its weights.
    """
    model = timm.create_model(name, pretrained, num_classes=0, **options)
    return _for_any_size(FeatureGetterNet(model, [len(model.feature_info) - 1], norm=norm))


def build_whole(name: str, options: Mapping[str, Any]) -> nn.Module:
    """Return the model with its classifier, without memory for its weights where possible."""
    try:
        with torch.device("meta"):
            return timm.create_model(name, **options)
    except (NotImplementedError, RuntimeError):  # some versions of some models need values
        return timm.create_model(name, **options)


def named_by_timm(network: nn.Module) -> nn.Module:
    """Return the part of a network of which the parameters have the names in timm's checkpoints."""
    return network.model if isinstance(network, FeatureGetterNet) else network


def channels_first(network: nn.Module, features: Sequence[Tensor]) -> list[Tensor]:
    """Return a network's features as [B, C, h, w]; some of timm's give [B, h, w, C]."""
    if getattr(network, "output_fmt", "NCHW") != "NHWC":
        return list(features)
    return [feature.permute(0, 3, 1, 2).contiguous() for feature in features]


def _for_any_size(network: nn.Module) -> nn.Module:
    swin.pad_before_shifting(network)
    hiera.make_any_size(network)
    return network
