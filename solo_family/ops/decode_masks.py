"""Decode masks from kernels and features: dynamic convolution (SOLOv2, section 2.1.3).

B images; N masks; n selected ones; E mask features; H W the features' size.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from . import gpu_kernels
from .packed_masks import PackedMasks, empty_packed, measure

# Bytes of soft masks in memory at a time, where they are computed at all.
_CHUNK_BYTES = 32 * 2**20
_INTEGERS = (torch.int64, torch.int32)


def dynamic_conv(kernels: Tensor, features: Tensor) -> Tensor:
    """Convolve mask features with predicted 1x1 kernels, for one image or for a batch.

    Args:
        kernels: [N, E] or [B, N, E].
        features: [E, H, W] or [B, E, H, W], on the same device and, except under autocast, of the
            same dtype.

    Returns:
        Mask logits [N, H, W] or [B, N, H, W].

    Raises:
        ValueError: shapes or devices do not fit.
    """
    # A tracer would record the comparison of sizes in its graph.
    if not torch.jit.is_tracing():
        _check_factors(kernels, features)
    # A 1x1 convolution is a matrix product; there is neither bias nor normalisation.
    return (kernels @ features.flatten(-2)).unflatten(-1, features.shape[-2:])


def dynamic_conv_in_float32(kernels: Tensor, features: Tensor) -> Tensor:
    """Return float32 logits of kernels and features of any precision.

    Products of values of half precision are exact in float32. A GPU multiplies them with its tensor
    cores, without a copy of them in float32; sums are of float32 either way.

    Args:
        kernels: see `dynamic_conv`.
        features: see `dynamic_conv`.

    Returns:
        float32 [N, H, W] or [B, N, H, W].

    Raises:
        ValueError: see `dynamic_conv`.
    """
    if not _multiplies_halves(kernels, features):
        return dynamic_conv(kernels.float(), features.float())
    _check_factors(kernels, features)
    multiply = torch.mm if kernels.ndim == 2 else torch.bmm
    product = multiply(kernels, features.flatten(-2), out_dtype=torch.float32)
    return product.unflatten(-1, features.shape[-2:])


def _multiplies_halves(kernels: Tensor, features: Tensor) -> bool:
    """Return whether cuBLAS can write a product of halves in float32 here, without gradients."""
    dtype, has_values = kernels.dtype, kernels.numel() > 0 and features.numel() > 0
    if not (kernels.is_cuda and dtype == features.dtype and has_values):
        return False
    if dtype not in (torch.float16, torch.bfloat16) or torch.version.cuda is None:
        return False
    if torch.is_grad_enabled() and (kernels.requires_grad or features.requires_grad):
        return False
    if torch.jit.is_tracing() or torch.compiler.is_compiling():
        return False
    # Older versions of torch have no such product.
    return "dtype" in torch.ops.aten.mm.overloads()


def decode_masks(
    kernels: Tensor,
    features: Tensor,
    mask_threshold: float,
    *,
    rows: Tensor | None = None,
    valid: Tensor | None = None,
) -> PackedMasks:
    """Convolve, apply sigmoid and threshold, and measure and pack masks, in one operator.

    On a GPU this is one kernel, so that no soft mask is ever in memory; elsewhere it is done in
    chunks. Products are summed in float32; float64, and one of two different dtypes, is rounded to
    it first.

    Args:
        kernels: floating-point [N, E].
        features: floating-point [E, H, W], on the same device.
        mask_threshold: a pixel is inside where its probability is above this, which NaN never is.
        rows: int64 [n], the kernels to use, in that order; None for all.
        valid: one int64 or int32 number on that device: how many of these masks are wanted. The
            others cost next to nothing and have area and maskness 0, and undefined words. The host
            does not wait for the number.

    Returns:
        n masks; without mask features every probability is 0.5.

    Raises:
        ValueError: shapes, dtypes or devices do not fit.
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
    _check_inputs(kernels, features, rows, valid)
    if kernels.dtype != features.dtype or kernels.dtype == torch.float64:
        kernels, features = kernels.float(), features.float()
    if gpu_kernels.runs("decode", features):
        # Not every machine has Triton.
        from .decode_masks_triton import decode_masks_triton

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
    packed = PackedMasks(*map(torch.cat, zip(*chunks)))
    return packed if valid is None else _leading(packed, len(kernels), valid)


def _leading(packed: PackedMasks, count: int, valid: Tensor) -> PackedMasks:
    """Pad masks to `count`, and set those from `valid` on to 0."""
    missing = count - len(packed.areas)
    unwanted = torch.arange(count, device=valid.device) >= valid
    return PackedMasks(
        F.pad(packed.words, (0, 0, 0, missing)).masked_fill_(unwanted[:, None], 0),
        F.pad(packed.areas, (0, missing)).masked_fill_(unwanted, 0),
        F.pad(packed.maskness, (0, missing)).masked_fill_(unwanted, 0),
    )


def _check_factors(kernels: Tensor, features: Tensor) -> None:
    """Raise ValueError for kernels [..., N, E] and features [..., E, H, W] of no product."""
    sizes, feature_sizes = kernels.shape, features.shape
    batches = sizes[:-2] == feature_sizes[:-3] and len(sizes) in (2, 3)
    if not batches or len(feature_sizes) != len(sizes) + 1 or sizes[-1] != feature_sizes[-3]:
        raise ValueError(
            f"{_shapes(kernels, features)} don't fit together: [N, E] and [E, H, W] are needed, "
            "or both with a batch in front"
        )
    if kernels.device != features.device:
        raise ValueError(
            f"{_shapes(kernels, features)} are on {kernels.device} and {features.device}: move "
            "one to the other's device"
        )


def _check_inputs(
    kernels: Tensor, features: Tensor, rows: Tensor | None, valid: Tensor | None
) -> None:
    """Raise ValueError for what the kernel would read out of bounds, or convert silently."""
    if kernels.ndim != 2 or features.ndim != 3:
        raise ValueError(
            f"{_shapes(kernels, features)} can't be decoded: [N, E] and [E, H, W] are needed"
        )
    _check_factors(kernels, features)
    if not (kernels.is_floating_point() and features.is_floating_point()):
        raise ValueError(
            f"{_shapes(kernels, features)} are of {kernels.dtype} and {features.dtype}, but must "
            "be floating-point: convert them, for example with `.float()`"
        )
    if rows is not None and (rows.ndim != 1 or rows.dtype != torch.int64):
        raise ValueError(f"rows must be int64 [n], but are {rows.dtype} {tuple(rows.shape)}")
    if valid is not None and (valid.numel() != 1 or valid.dtype not in _INTEGERS):
        raise ValueError(
            f"valid must be one int64 or int32 number, but is {valid.dtype} {tuple(valid.shape)}"
        )
    for name, given in (("rows", rows), ("valid", valid)):
        if given is not None and given.device != kernels.device:
            raise ValueError(f"{name} must be on the kernels' {kernels.device}, not {given.device}")


def _shapes(kernels: Tensor, features: Tensor) -> str:
    return f"kernels {tuple(kernels.shape)} and mask features {tuple(features.shape)}"


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
