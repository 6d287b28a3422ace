"""Decode instances with instance activation maps.

SparseInst, arXiv 2203.12827, "Instance Activation Maps" and "IAM-based Decoder".

B images, C channels, G groups, N instances, each with one map per group, K classes, E kernel
weights, H W of the encoder's map.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from fvcore.nn.weight_init import c2_msra_fill, c2_xavier_fill
from torch import Tensor, nn

from ...modeling.layers import prepend_coords
from ...modeling.one_to_many import for_training_only
from ...modeling.set_predictions import SetPredictions
from ...ops.decode_masks import dynamic_conv_in_float32

_PRIOR_BIAS = -math.log(99)  # the logit of a probability of 0.01


class InstanceOutputs(NamedTuple):
    """The predictions of an instance branch.

    Attributes:
        class_logits: [B, N, K].
        mask_kernels: [B, N, E].
        objectness_logits: [B, N], or None without objectness.
        activation_maps: the weights that instance features are averaged with, float32 [B, G, N, H,
            W].
    """

    class_logits: Tensor
    mask_kernels: Tensor
    objectness_logits: Tensor | None
    activation_maps: Tensor


class DecoderOutputs(NamedTuple):
    """The predictions of the decoder.

    Attributes:
        predictions: the predictions in float32, masks at `scale_factor` times H and W.
        activation_maps: float32 [B, G, N, H, W].
    """

    predictions: SetPredictions
    activation_maps: Tensor


class SparseInstDecoder(nn.Module):
    """Run two branches on the encoder's map with coordinates: one for instances, one for masks.

    Args:
        instance_branch: an `ActivationBranch` or a `CrossAttentionBranch`.
        mask_branch: computes the mask features.
        scale_factor: the factor by which masks are upsampled bilinearly.
        use_coords: whether the branches see coordinates as well.
    """

    def __init__(
        self,
        *,
        instance_branch: nn.Module,
        mask_branch: "MaskBranch",
        scale_factor: float = 2.0,
        use_coords: bool = True,
    ) -> None:
        super().__init__()
        self.instance_branch = instance_branch
        self.mask_branch = mask_branch
        self.scale_factor = scale_factor
        self.use_coords = use_coords

    @property
    def num_predictions(self) -> int:
        """N, of either branch."""
        count: Any = self.instance_branch.num_predictions
        return int(count)

    def forward(self, x: Tensor) -> DecoderOutputs:
        """Decode the encoder's map, [B, C, H, W]."""
        if self.use_coords:
            x = prepend_coords(x)
        instances: InstanceOutputs = self.instance_branch(x)
        mask_features = self.mask_branch(x)
        # Without normalisation layers these sums can exceed the range of float16.
        with torch.autocast(x.device.type, enabled=False):
            mask_logits = dynamic_conv_in_float32(instances.mask_kernels, mask_features)
        mask_logits = F.interpolate(
            mask_logits, scale_factor=self.scale_factor, mode="bilinear", align_corners=False
        )
        objectness = instances.objectness_logits
        predictions = SetPredictions(
            instances.class_logits.float(),
            mask_logits,
            None if objectness is None else objectness.float(),
        )
        return DecoderOutputs(predictions, instances.activation_maps)


@dataclass(frozen=True)
class ActivationMaps:
    """Describe the instance activation maps of an `ActivationBranch`.

    Attributes:
        num_maps: N.
        groups: G; each group's maps average their own C / G channels of the features.
        fuse: combine the groups with a fully connected layer, as Group-IAM does; required if G > 1.
        kernel_size: the side of the convolution that predicts the maps, 3 as published, or 1.
        activation: "sigmoid", normalised by the sum over all positions; or "softmax" over them.
        num_auxiliary: the number of further maps that a branch has in training, after the others;
            see `modeling/one_to_many.py`.
    """

    num_maps: int
    groups: int
    fuse: bool
    kernel_size: int
    activation: str
    num_auxiliary: int = 0

    def convolution(self, channels: int, num_maps: int) -> nn.Conv2d:
        """Return a convolution that predicts so many maps of each group, initialised."""
        size = self.kernel_size
        conv = nn.Conv2d(
            channels, self.groups * num_maps, size, padding=size // 2, groups=self.groups
        )
        _init_rare(conv)
        return conv


class ActivationBranch(nn.Module):
    """Compute the features of instances as means, weighted by instance activation maps.

    With G groups (Group-IAM), each of the N instances has G maps, and a fully connected layer
    combines its G averages.

    Args:
        in_channels: number of channels of the input.
        channels: C.
        num_convs: the length of the tower.
        maps: describes the maps and how the features of their groups are combined.
        predictor: makes the `InstancePredictor` for a number of channels.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        channels: int,
        num_convs: int,
        maps: ActivationMaps,
        predictor: Callable[[int], "InstancePredictor"],
    ) -> None:
        super().__init__()
        self.num_predictions = maps.num_maps
        self.groups = maps.groups
        self.activation = maps.activation
        self.convs = conv_relu_tower(in_channels, channels, num_convs)
        self.iam_conv = maps.convolution(channels, maps.num_maps)
        self.auxiliary_iam_conv: nn.Module | None = None
        if maps.num_auxiliary:
            self.auxiliary_iam_conv = for_training_only(
                lambda: maps.convolution(channels, maps.num_auxiliary)
            )
        joined = maps.groups * channels
        self.fc = nn.Linear(joined, joined) if maps.fuse else None
        if self.fc is not None:
            c2_xavier_fill(self.fc)
        self.predictor = predictor(joined)

    def forward(self, x: Tensor) -> InstanceOutputs:
        """Predict from the encoder's map with coordinates, [B, 2 + C, H, W].

        Returns:
            The predictions; in training those of the auxiliary maps come after the N others.
        """
        features = self.convs(x)
        logits = self._map_logits(features)
        if self.activation == "softmax":
            maps = logits.flatten(-2).softmax(-1).view_as(logits)
            instances = _weighted_sums(maps, features)
        else:
            maps = logits.sigmoid()
            total = maps.sum((-2, -1)).clamp(min=1e-6)
            instances = _weighted_sums(maps, features) / total[..., None]
        # Averages, unlike the sums that they are made of, stay in the range of half precision.
        instances = instances.transpose(1, 2).flatten(2).to(features.dtype)
        if self.fc is not None:
            instances = self.fc(instances).relu()
        return self.predictor(instances, maps)

    def _map_logits(self, features: Tensor) -> Tensor:
        """Return the logits of the maps, float32 [B, G, N, H, W]."""
        # Channels are group-major: all maps of the first group come first.
        logits = self.iam_conv(features).float().unflatten(1, (self.groups, -1))
        if not self.training or self.auxiliary_iam_conv is None:
            return logits
        auxiliary = self.auxiliary_iam_conv(features).float().unflatten(1, (self.groups, -1))
        return torch.cat([logits, auxiliary], dim=2)


def _weighted_sums(weights: Tensor, features: Tensor) -> Tensor:
    """Sum the features over all positions, weighted by each map.

    Args:
        weights: float32 [B, ..., H, W].
        features: [B, C, H, W].

    Returns:
        float32 [B, ..., C], because a sum over thousands of positions exceeds the range of float16.
    """
    with torch.autocast(weights.device.type, enabled=False):
        flat = weights.flatten(-2).flatten(1, -2)
        sums = flat @ features.float().flatten(2).transpose(1, 2)
    return sums.unflatten(1, weights.shape[1:-2])


class InstancePredictor(nn.Module):
    """Predict the class, the mask kernel and the objectness of every instance.

    Args:
        channels: C.
        num_classes: K.
        kernel_channels: E.
        objectness: whether there is an objectness.
    """

    def __init__(
        self, channels: int, *, num_classes: int, kernel_channels: int, objectness: bool = True
    ) -> None:
        super().__init__()
        self.class_logits = nn.Linear(channels, num_classes)
        self.mask_kernel = nn.Linear(channels, kernel_channels)
        self.objectness = nn.Linear(channels, 1) if objectness else None
        _init_rare(self.class_logits)
        nn.init.normal_(self.mask_kernel.weight, std=0.01)
        nn.init.zeros_(self.mask_kernel.bias)

    def forward(self, instances: Tensor, activation_maps: Tensor) -> InstanceOutputs:
        """Predict from instance features, [B, N, C], and pass on their activation maps."""
        objectness = None if self.objectness is None else self.objectness(instances).squeeze(-1)
        return InstanceOutputs(
            class_logits=self.class_logits(instances),
            mask_kernels=self.mask_kernel(instances),
            objectness_logits=objectness,
            activation_maps=activation_maps,
        )


class MaskBranch(nn.Module):
    """Compute the mask features that the kernels are convolved with."""

    def __init__(
        self, *, in_channels: int, channels: int, num_convs: int, out_channels: int
    ) -> None:
        super().__init__()
        self.convs = conv_relu_tower(in_channels, channels, num_convs)
        self.projection = nn.Conv2d(channels if num_convs else in_channels, out_channels, 1)
        c2_msra_fill(self.projection)

    def forward(self, x: Tensor) -> Tensor:
        """Return the mask features, [B, E, H, W], of the encoder's map with coordinates."""
        return self.projection(self.convs(x))


def conv_relu_tower(in_channels: int, channels: int, num_convs: int) -> nn.Sequential:
    """Return `num_convs` 3x3 convolutions with bias and without norms, each before a ReLU."""
    layers: list[nn.Module] = []
    for index in range(num_convs):
        conv = nn.Conv2d(channels if index else in_channels, channels, 3, padding=1)
        c2_msra_fill(conv)
        layers += [conv, nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def _init_rare(layer: nn.Conv2d | nn.Linear) -> None:
    """Initialise a layer of rarely high sigmoid: weights N(0, 0.01), probability 0.01."""
    nn.init.normal_(layer.weight, std=0.01)
    assert layer.bias is not None
    nn.init.constant_(layer.bias, _PRIOR_BIAS)
