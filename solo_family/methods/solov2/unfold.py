"""Make dynamic convolutions of any size 1x1 convolutions.

B images, C channels, k the side of the convolution.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def unfold(features: Tensor, kernel_size: int) -> Tensor:
    """Return each pixel's neighbourhood as channels: [B, C, H, W] as [B, C k^2, H, W].

    A 1x1 convolution of the result is a k x k convolution of the features, with the weights in the
    order that torch has them in, and zeros beyond the border.

    Args:
        features: [B, C, H, W].
        kernel_size: k, odd.
    """
    if kernel_size == 1:
        return features
    height, width = features.shape[-2:]
    padded = F.pad(features, [kernel_size // 2] * 4)
    shifted = [
        padded[..., y : y + height, x : x + width]
        for y in range(kernel_size)
        for x in range(kernel_size)
    ]
    return torch.stack(shifted, dim=2).flatten(1, 2)
