"""From mask kernels and mask features straight to packed masks (SOLOv2, section 3.2.3).

Shape letters: N masks; E mask features; H W the features' size.
"""

from __future__ import annotations

import torch
from torch import Tensor

from solo_family.layers.dynamic_conv import dynamic_conv
from solo_family.ops import gpu_kernels
from solo_family.ops.packed_masks import PackedMasks, empty_packed, measure

# Bytes of the soft masks that are in memory at a time where they are.
_CHUNK_BYTES = 32 * 2**20


def decode_masks(kernels: Tensor, features: Tensor, mask_threshold: float) -> PackedMasks:
    """Dynamic convolution, sigmoid, threshold, areas, maskness and packing.

    On a GPU in one kernel, so that no soft mask is ever in memory; elsewhere in chunks. Products
    are summed in float32, to which float64, or one of two different dtypes, is rounded first.

    Args:
        kernels: floating-point [N, E].
        features: floating-point [E, H, W], on the same device.
        mask_threshold: a pixel is inside where its probability is above this, which NaN is not.

    Returns:
        N masks; without mask features each probability is 0.5.

    Raises:
        ValueError: shapes, dtypes or devices are others.
    """
    return PackedMasks(*_decode_masks(kernels, features, mask_threshold))


@torch.library.custom_op(
    "solo_family::decode_masks",
    mutates_args=(),
    schema="(Tensor kernels, Tensor features, float mask_threshold) -> (Tensor, Tensor, Tensor)",
)
def _decode_masks(
    kernels: Tensor, features: Tensor, mask_threshold: float
) -> tuple[Tensor, Tensor, Tensor]:
    _check_inputs(kernels, features)
    if kernels.dtype != features.dtype or kernels.dtype == torch.float64:
        kernels, features = kernels.float(), features.float()
    if gpu_kernels.runs("decode", features):
        from solo_family.ops.decode_masks_triton import decode_masks_triton

        return decode_masks_triton(kernels, features, mask_threshold)
    step = max(1, _CHUNK_BYTES // max(1, 4 * features.shape[1] * features.shape[2]))
    features = features.float()
    with torch.autocast(features.device.type, enabled=False):
        chunks = [
            measure(dynamic_conv(chunk.float(), features).sigmoid_(), mask_threshold)
            for chunk in kernels.split(step)
        ]
    return PackedMasks(*(torch.cat(parts) for parts in zip(*chunks)))


def _check_inputs(kernels: Tensor, features: Tensor) -> None:
    """Raises ValueError for what the kernel would read out of bounds, or convert silently."""
    shapes = f"kernels {tuple(kernels.shape)} and mask features {tuple(features.shape)}"
    if kernels.ndim != 2 or features.ndim != 3 or kernels.shape[1] != features.shape[0]:
        raise ValueError(f"{shapes} don't go together: [N, E] and [E, H, W] are needed")
    if not (kernels.is_floating_point() and features.is_floating_point()):
        raise ValueError(
            f"{shapes} are of {kernels.dtype} and {features.dtype}, but must be floating-point: "
            "convert them, for example with `.float()`"
        )
    if kernels.device != features.device:
        raise ValueError(
            f"{shapes} are on {kernels.device} and {features.device}: move one to the other's"
        )


@_decode_masks.register_fake
def _(kernels: Tensor, features: Tensor, mask_threshold: float) -> tuple[Tensor, Tensor, Tensor]:
    return empty_packed(kernels, len(kernels), features.shape[1] * features.shape[2])
