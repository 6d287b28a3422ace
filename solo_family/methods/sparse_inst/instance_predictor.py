"""What SparseInst's decoders share: towers, and the predictions of instance features.

B images, N instances, C channels, K classes, E kernel weights.
"""

import math

import torch
from fvcore.nn.weight_init import c2_msra_fill
from torch import Tensor, nn

_PRIOR_BIAS = -math.log(99)  # a probability of 0.01


def conv_relu_tower(in_channels: int, channels: int, num_convs: int) -> nn.Sequential:
    """Returns `num_convs` times a 3x3 convolution with bias and ReLU, no normalisation."""
    layers: list[nn.Module] = []
    for index in range(num_convs):
        conv = nn.Conv2d(channels if index else in_channels, channels, 3, padding=1)
        c2_msra_fill(conv)
        layers += [conv, nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def init_rare(layer: nn.Conv2d | nn.Linear) -> None:
    """Initialises a layer whose sigmoid is rarely to be high: N(0, 0.01), probability 0.01."""
    nn.init.normal_(layer.weight, std=0.01)
    assert layer.bias is not None
    nn.init.constant_(layer.bias, _PRIOR_BIAS)


class InstancePredictor(nn.Module):
    """Class, mask kernel and objectness of every instance (arXiv 2203.12827, section 3.3).

    Args:
        channels: C.
        num_classes: K.
        kernel_channels: E.
    """

    def __init__(self, *, channels: int, num_classes: int, kernel_channels: int) -> None:
        super().__init__()
        self.class_logits = nn.Linear(channels, num_classes)
        self.mask_kernel = nn.Linear(channels, kernel_channels)
        self.objectness = nn.Linear(channels, 1)
        init_rare(self.class_logits)
        nn.init.normal_(self.mask_kernel.weight, std=0.01)
        nn.init.zeros_(self.mask_kernel.bias)

    def forward(self, instances: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Predicts from instance features [B, N, C].

        Returns:
            class_logits [B, N, K], mask_kernels [B, N, E], objectness_logits [B, N].
        """
        return (
            self.class_logits(instances),
            self.mask_kernel(instances),
            self.objectness(instances).squeeze(-1),
        )


class MaskBranch(nn.Module):
    """The mask features that the kernels are applied to."""

    def __init__(
        self, *, in_channels: int, channels: int, num_convs: int, out_channels: int
    ) -> None:
        super().__init__()
        self.convs = conv_relu_tower(in_channels, channels, num_convs)
        self.projection = nn.Conv2d(channels if num_convs else in_channels, out_channels, 1)
        c2_msra_fill(self.projection)

    def forward(self, x: Tensor) -> Tensor:
        return self.projection(self.convs(x))


def weighted_sums(weights: Tensor, features: Tensor) -> Tensor:
    """Sums features over the positions, once for every map of weights.

    Args:
        weights: float32 [B, ..., H, W].
        features: [B, C, H, W].

    Returns:
        float32 [B, ..., C]. In float32 because a sum over thousands of positions exceeds float16.
    """
    with torch.autocast(weights.device.type, enabled=False):
        flat = weights.flatten(-2).flatten(1, -2)
        sums = flat @ features.float().flatten(2).transpose(1, 2)
    return sums.unflatten(1, weights.shape[1:-2])
