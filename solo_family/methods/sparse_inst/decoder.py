"""SparseInst's decoder: instance activation maps (arXiv 2203.12827, sections 3.1 and 3.3).

B images, C channels, G groups, N maps per group, H W of the encoder's map.
"""

import torch
import torch.nn.functional as F
from fvcore.nn.weight_init import c2_xavier_fill
from torch import Tensor, nn

from ...modeling.layers import prepend_coords
from ...modeling.set_predictions import SetPredictions
from ...ops import dynamic_conv
from .instance_predictor import (
    InstancePredictor,
    MaskBranch,
    conv_relu_tower,
    init_rare,
    weighted_sums,
)


class ActivationBranch(nn.Module):
    """Instance features are averages of the features under instance activation maps.

    With G groups (Group-IAM), each of the N instances has G maps, and its G averages are joined by
    a fully connected layer.

    Args:
        in_channels: of the input.
        channels, num_convs: C and the length of the tower.
        num_maps: N.
        groups: G; each group's maps see their own C / G channels of the features.
        fuse: whether the fully connected layer is there, as in Group-IAM; needed if G > 1.
        kernel_size: of the convolution that predicts the maps, 3 as published, or 1.
        activation: "sigmoid", normalised by the sum over all positions; or "softmax" over them.
        num_classes, kernel_channels: see `InstancePredictor`.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        channels: int,
        num_convs: int,
        num_maps: int,
        groups: int,
        fuse: bool,
        kernel_size: int,
        activation: str,
        num_classes: int,
        kernel_channels: int,
    ) -> None:
        super().__init__()
        self.groups = groups
        self.activation = activation
        self.convs = conv_relu_tower(in_channels, channels, num_convs)
        self.iam_conv = nn.Conv2d(
            channels, groups * num_maps, kernel_size, padding=kernel_size // 2, groups=groups
        )
        init_rare(self.iam_conv)
        joined = groups * channels
        self.fc = nn.Linear(joined, joined) if fuse else None
        if self.fc is not None:
            c2_xavier_fill(self.fc)
        self.predictor = InstancePredictor(
            channels=joined, num_classes=num_classes, kernel_channels=kernel_channels
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Predicts from the encoder's map with coordinates, [B, 2 + C, H, W].

        Returns:
            What `InstancePredictor` does, and the activation maps, float32 [B, G, N, H, W].
        """
        features = self.convs(x)
        # Channels are group-major: all maps of the first group come first.
        logits = self.iam_conv(features).float().unflatten(1, (self.groups, -1))
        if self.activation == "softmax":
            maps = logits.flatten(-2).softmax(-1).view_as(logits)
            instances = weighted_sums(maps, features)
        else:
            maps = logits.sigmoid()
            total = maps.sum((-2, -1)).clamp(min=1e-6)
            instances = weighted_sums(maps, features) / total[..., None]
        # Averages, unlike the sums that they are made of, are in the range of half precision.
        instances = instances.transpose(1, 2).flatten(2).to(features.dtype)
        if self.fc is not None:
            instances = self.fc(instances).relu()
        return (*self.predictor(instances), maps)


class SparseInstDecoder(nn.Module):
    """Two branches over the encoder's map with coordinates: instances, and mask features.

    Args:
        instance_branch: an `ActivationBranch` or a `CrossAttentionBranch`.
        mask_branch: gives the mask features.
        scale_factor: by which the masks are enlarged, bilinearly.
    """

    def __init__(
        self, *, instance_branch: nn.Module, mask_branch: MaskBranch, scale_factor: float = 2.0
    ) -> None:
        super().__init__()
        self.instance_branch = instance_branch
        self.mask_branch = mask_branch
        self.scale_factor = scale_factor

    def forward(self, x: Tensor) -> tuple[SetPredictions, Tensor]:
        """Decodes the encoder's map, [B, C, H, W].

        Returns:
            predictions: masks at `scale_factor` times H and W, in float32.
            maps: the activation maps, float32 [B, G, N, H, W].
        """
        x = prepend_coords(x)
        class_logits, kernels, objectness_logits, maps = self.instance_branch(x)
        mask_features = self.mask_branch(x)
        # Without normalisation layers these sums can exceed float16.
        with torch.autocast(x.device.type, enabled=False):
            mask_logits = dynamic_conv(kernels.float(), mask_features.float())
        mask_logits = F.interpolate(
            mask_logits, scale_factor=self.scale_factor, mode="bilinear", align_corners=False
        )
        return SetPredictions(class_logits, mask_logits, objectness_logits), maps
