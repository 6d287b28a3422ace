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
