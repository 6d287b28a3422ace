"""From mask kernels and mask features straight to packed masks (SOLOv2, section 3.2.3).

Shape letters: N masks; n of them; E mask features; H W the features' size.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from solo_family.ops import gpu_kernels
from solo_family.ops.dynamic_conv import dynamic_conv
from solo_family.ops.packed_masks import PackedMasks, empty_packed, measure

# Bytes of the soft masks that are in memory at a time where they are.
_CHUNK_BYTES = 32 * 2**20


def decode_masks(
    kernels: Tensor,
    features: Tensor,
    mask_threshold: float,
    *,
    rows: Tensor | None = None,
    valid: Tensor | None = None,
) -> PackedMasks:
    """Dynamic convolution, sigmoid, threshold, areas, maskness and packing.

    On a GPU in one kernel, so that no soft mask is ever in memory; elsewhere in chunks. Products
    are summed in float32, to which float64, or one of two different dtypes, is rounded first.

    Args:
        kernels: floating-point [N, E].
        features: floating-point [E, H, W], on the same device.
        mask_threshold: a pixel is inside where its probability is above this, which NaN is not.
        rows: int64 [n], which kernels, in that order; all where left out.
        valid: int64 or int32 scalar on their device, how many of these are wanted: the others
            have area and maskness 0 at next to no cost, and nobody waits for the number. Their
            words are undefined.

    Returns:
        n masks; without mask features each probability is 0.5.

    Raises:
        ValueError: shapes, dtypes or devices are others.
    """
    return PackedMasks(*_decode_masks(kernels, features, mask_threshold, rows, valid))


@torch.library.custom_op(
    "solo_family::decode_masks",
    mutates_args=(),
    schema="(Tensor kernels, Tensor features, float mask_threshold, Tensor? rows=None, "
    "Tensor? valid=None) -> (Tensor, Tensor, Tensor)",
)
def _decode_masks(
    kernels: Tensor,
    features: Tensor,
    mask_threshold: float,
    rows: Tensor | None = None,
    valid: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    _check_inputs(kernels, features)
    if kernels.dtype != features.dtype or kernels.dtype == torch.float64:
        kernels, features = kernels.float(), features.float()
    if gpu_kernels.runs("decode", features):
        from solo_family.ops.decode_masks_triton import decode_masks_triton

        return decode_masks_triton(kernels, features, mask_threshold, rows=rows, valid=valid)
    kernels = kernels if rows is None else kernels[rows]
    # The memory of a CPU can be read without waiting.
    wanted = kernels if valid is None or not valid.is_cpu else kernels[: max(0, int(valid))]
    step = max(1, _CHUNK_BYTES // max(1, 4 * features.shape[1] * features.shape[2]))
    features = features.float()
    with torch.autocast(features.device.type, enabled=False):
        chunks = [
            measure(dynamic_conv(chunk.float(), features).sigmoid_(), mask_threshold)
            for chunk in wanted.split(step)
        ]
    packed = PackedMasks(*(torch.cat(parts) for parts in zip(*chunks)))
    return packed if valid is None else _leading(packed, len(kernels), valid)


def _leading(packed: PackedMasks, count: int, valid: Tensor) -> PackedMasks:
    """So many masks, of which those from `valid` on are unwanted."""
    missing = count - len(packed.areas)
    unwanted = torch.arange(count, device=valid.device) >= valid
    return PackedMasks(
        F.pad(packed.words, (0, 0, 0, missing)).masked_fill_(unwanted[:, None], 0),
        F.pad(packed.areas, (0, missing)).masked_fill_(unwanted, 0),
        F.pad(packed.maskness, (0, missing)).masked_fill_(unwanted, 0),
    )


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
def _(
    kernels: Tensor,
    features: Tensor,
    mask_threshold: float,
    rows: Tensor | None = None,
    valid: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    count = len(kernels if rows is None else rows)
    return empty_packed(kernels, count, features.shape[1] * features.shape[2])
