"""Normalise an image and pad it, in a Triton kernel.

C channels; h w of the image; H W of the result.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .jit_triton import jit

# Pixels of one program.
_PIXELS = 1024


def normalise_triton(image: Tensor, mean: Tensor, std: Tensor, target: Tensor) -> None:
    """Write `(image - mean) / std`, computed in float32, and 0 right of the image and below it.

    Args:
        image: uint8, float16, bfloat16 or float32 [C, h, w], of any strides.
        mean: float32 [C].
        std: float32 [C].
        target: float16, bfloat16 or float32 [C, H, W], of any strides, which is overwritten.
    """
    height, width = target.shape[1:]
    # Triton launches on the current GPU, which may be a different one.
    with torch.cuda.device_of(target):
        _normalise_kernel[(triton.cdiv(height * width, _PIXELS),)](
            *(image, mean, std, target, *image.shape[1:], height, width),
            *(*image.stride(), *target.stride()),
            CHANNELS=len(image),
            PIXELS=_PIXELS,
        )


_SIZES = ["h", "w", "height", "width"]
_STRIDES = [f"{which}_{axis}" for which in ("image", "target") for axis in "cyx"]


@jit(do_not_specialize=[*_SIZES, *_STRIDES], do_not_specialize_on_alignment=["image", "target"])
def _normalise_kernel(
    image,
    mean,
    std,
    target,
    h,
    w,
    height,
    width,
    image_c,
    image_y,
    image_x,
    target_c,
    target_y,
    target_x,
    CHANNELS: tl.constexpr,
    PIXELS: tl.constexpr,
):
    pixel = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    exists = pixel < height * width
    row, column = (pixel // width).to(tl.int64), (pixel % width).to(tl.int64)
    inside = exists & (row < h) & (column < w)
    source = image + row * image_y + column * image_x
    place = target + row * target_y + column * target_x
    # An image can be a part of one of more than 2^30 pixels.
    plane = image_c.to(tl.int64)
    for channel in tl.static_range(CHANNELS):
        value = tl.load(source + channel * plane, mask=inside, other=0).to(tl.float32)
        value = value - tl.load(mean + channel)
        # Rounded as torch rounds it; an ordinary quotient is less exact.
        value = tl.math.div_rn(value, tl.zeros_like(value) + tl.load(std + channel))
        value = tl.where(inside, value, 0.0)
        tl.store(place + channel * target_c, value.to(target.dtype.element_ty), mask=exists)
