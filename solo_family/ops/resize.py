"""Bilinear resizing between pixel centres, as every method of the family does it."""

import torch
import torch.nn.functional as F
from torch import Tensor


def resize_bilinear(features: Tensor, size: tuple[int, int]) -> Tensor:
    """Resizes [B, C, H, W] to [B, C, *size]; features of that size are returned as they are."""
    # Of a symbolic size the answer would hold for every image that an exported program gets.
    symbolic = any(isinstance(side, torch.SymInt) for side in features.shape)
    if not symbolic and features.shape[-2:] == size:
        return features
    return F.interpolate(features, size=size, mode="bilinear", align_corners=False)


def resize_soft_masks(
    masks: Tensor,
    padded_size: tuple[int, int],
    image_size: tuple[int, int],
    output_size: tuple[int, int],
) -> Tensor:
    """Resizes soft masks in two steps: to the network's padded input, of which the image is kept.

    Args:
        masks: [N, h, w], probabilities or logits.
        padded_size: (height, width) of the network's input.
        image_size: (height, width) of the image in it, without padding.
        output_size: (H, W).

    Returns:
        float32 [N, H, W].
    """
    soft = resize_bilinear(masks.float()[None], padded_size)
    return resize_bilinear(soft[..., : image_size[0], : image_size[1]], output_size)[0]
