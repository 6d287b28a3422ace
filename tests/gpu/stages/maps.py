"""Kernels of feature maps with channels last against float64."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from solo_family.ops.group_norm_relu import group_norm_relu
from solo_family.ops.max_pool import max_pool
from solo_family.ops.resize_maps import add_enlarged, upsample_twofold

from . import rows, sampling, settings

# Maps of images, the last of an odd size: images, channels, height, width.
_SHAPES = (
    *((1, 512, 40, 40), (1, 512, 12, 12), (2, 128, 200, 336)),
    *((8, 256, 100, 168), (1, 64, 401, 543)),
)


def check_maps(dtype: torch.dtype) -> None:
    """Add rows of the errors, in units of the dtype's rounding."""
    for shape in ((1, 8, 5, 7), (2, 48, 13, 20)) if settings.is_tiny() else _SHAPES:
        x = (sampling.normal(*shape) * 3 + 5).to(dtype).to(memory_format=torch.channels_last)
        size = 2 * shape[2], 2 * shape[3]
        other = sampling.normal(*shape[:2], *size).to(dtype).to(memory_format=torch.channels_last)
        weight, bias = (sampling.normal(shape[1]).to(dtype) for _ in range(2))
        exact, groups = x.double().contiguous(), shape[1] // 8
        normed = torch.group_norm(exact, groups, weight.double(), bias.double(), 1e-5)
        found = {
            "group norm": (group_norm_relu(x, groups, weight, bias, 1e-5, True), normed.relu()),
            "upsample": (upsample_twofold(x), F.interpolate(exact, size=size, mode="bilinear")),
            "add": (add_enlarged(other, x), other.double() + F.interpolate(exact, size=size)),
            "pool": (max_pool(x), F.max_pool2d(exact, 3, 2, 1)),
        }
        for what, (one, expected) in found.items():
            unit = torch.finfo(dtype).eps
            error = ((one.double() - expected).abs() / (expected.abs() + 1)).max() / unit
            # In float32 a sum of many values has more than one rounding.
            bound = 64 if dtype == torch.float32 else 4
            rows.add(f"{what} {dtype} {shape}", error < bound, error, "roundings")
