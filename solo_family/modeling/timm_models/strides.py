"""Bring feature maps to the strides that they are promised at.

B images, C channels, H W of the padded image, h w of a map.
"""

from math import log2

import torch.nn.functional as F
from torch import Tensor


def promised_stride(stride: int) -> int:
    """Return the power of two that is nearest to a stride, by ratio: 16 for patches of 14."""
    return 1 << round(log2(stride))


def at_stride(feature: Tensor, stride: int, size: tuple[int, int]) -> Tensor:
    """Return a map at its promised stride, for the image without what a network padded.

    A map of another stride (14, for 16) is sampled bilinearly at the places where the pixels of the
    promised map are. One without padded convolutions gets the missing border, by repetition.

    Args:
        feature: [B, C, h, w].
        stride: of the map.
        size: (height, width) of the image.

    Returns:
        [B, C, ceil(H / s), ceil(W / s)], s being the promised stride.
    """
    promised = promised_stride(stride)
    height, width = (-(-side // promised) for side in size)
    if promised != stride:
        feature = F.interpolate(
            feature, scale_factor=stride / promised, mode="bilinear", recompute_scale_factor=False
        )
    feature = feature[..., :height, :width]
    below, right = height - feature.shape[-2], width - feature.shape[-1]
    if not below and not right:
        return feature
    border = [right // 2, right - right // 2, below // 2, below - below // 2]
    return F.pad(feature, border, mode="replicate")
