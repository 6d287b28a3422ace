"""Exact intersections and IoU of binary masks, in bounded memory.

Shape letters: N, M masks; h w the masks' size; P pixels of one chunk.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# A float32 sum of ones is exact below 2**24; a sixteenth of it leaves no doubt about a
# backend that sums in an order of its own.
_MAX_CHUNK_PIXELS = 2**20
_MAX_CHUNK_BYTES = 32 * 2**20
# Masks on a GPU from which int8 products are used.
_INT8_FROM = 500


def mask_intersections(a: Tensor, b: Tensor | None = None) -> Tensor:
    """Count the pixels that each mask of `a` shares with each mask of `b`.

    The counts are exact whatever the size of the masks, also under autocast and with TF32
    matrix products. Beyond a few [N, M] matrices, at most 32 MB are used whatever the masks' size.

    Args:
        a: bool [N, h, w].
        b: bool [M, h, w]; `a` itself when left out.

    Returns:
        int64 [N, M], in pixels.

    Raises:
        ValueError: for masks that are not bool, or of two sizes.
    """
    _check_masks(a, a if b is None else b)
    a_flat = a.flatten(1)
    b_flat = a_flat if b is None else b.flatten(1)
    if _has_int8_products(a_flat, b_flat):
        return _int8_products(a_flat, b_flat)
    rows = len(a) if b is None else len(a) + len(b)
    chunk = _chunk_pixels(rows)
    total = a.new_zeros((a_flat.shape[0], b_flat.shape[0]), dtype=torch.int64)
    # Autocast would round the counts to half precision: 2049 is already lost in float16.
    with torch.autocast(device_type=a.device.type, enabled=False):
        for a_chunk, b_chunk in zip(a_flat.split(chunk, dim=1), b_flat.split(chunk, dim=1)):
            left = a_chunk.float()
            right = left if b is None else b_chunk.float()
            total += (left @ right.T).long()
    return total


def mask_iou(a: Tensor, b: Tensor | None = None) -> Tensor:
    """Intersection over union of each mask of `a` with each mask of `b`.

    Args:
        a: bool [N, h, w].
        b: bool [M, h, w]; `a` itself when left out.

    Returns:
        float32 [N, M] in [0, 1]; 0 where the union is empty.

    Raises:
        ValueError: for masks that are not bool, or of two sizes.
    """
    intersections = mask_intersections(a, b)
    # What a mask shares with itself is its area.
    a_areas = intersections.diagonal() if b is None else mask_areas(a)
    b_areas = a_areas if b is None else mask_areas(b)
    unions = a_areas[:, None] + b_areas - intersections
    # An empty union has an empty intersection: 0 / 1 makes its IoU 0 rather than NaN.
    return intersections.float() / unions.clamp(min=1)


def mask_areas(masks: Tensor) -> Tensor:
    """Count the pixels of each mask.

    Args:
        masks: bool [N, h, w].

    Returns:
        int64 [N].

    Raises:
        ValueError: for masks that are not bool.
    """
    _check_masks(masks, masks)
    if masks.is_cuda:
        return masks.flatten(1).sum(dim=1)
    # On a CPU torch adds up bools by way of an int64 copy of them, eight bytes for each pixel; a
    # product with ones is ten times as fast where there are int8 products, and small elsewhere.
    return mask_intersections(masks, masks.new_ones((1, *masks.shape[1:])))[:, 0]


def _has_int8_products(a: Tensor, b: Tensor) -> bool:
    """Whether int8 products of bool [N, P] and [M, P], summed in int32, are faster than float32."""
    if a.is_cuda:
        # Of 500 masks five times as fast on an H200; of fewer it was not measured.
        has_int8 = torch.version.cuda and torch.cuda.get_device_capability(a.device) >= (7, 5)
        return bool(has_int8) and min(len(a), len(b)) >= _INT8_FROM
    # Over a single pixel they are wrong, as of torch 2.11.
    return (
        a.device.type == "cpu"
        and a.shape[1] > 1
        and torch.backends.mkldnn.is_available()
        and torch.backends.cpu.get_cpu_capability() == "AVX512"
    )


def _int8_products(a: Tensor, b: Tensor) -> Tensor:
    """Products of the rows of bool [N, P] and [M, P]: int64 [N, M]. On a CPU no byte is copied."""
    if not (a.numel() and b.numel()):
        return a.new_zeros((len(a), len(b)), dtype=torch.int64)
    sizes = len(a), len(b)
    if a.is_cuda:
        a, b = _padded(a), _padded(b)
    products = torch._int_mm(a.view(torch.int8), b.view(torch.int8).T)
    return products[: sizes[0], : sizes[1]].long()


def _padded(pixels: Tensor) -> Tensor:
    """Bool [N, P] with zeros up to the multiples of 8, and the address, that cuBLAS asks for."""
    rows, columns = -pixels.shape[0] % 8, -pixels.shape[1] % 8
    if rows or columns:
        return F.pad(pixels, (0, columns, 0, rows))
    return pixels.clone() if pixels.data_ptr() % 16 else pixels


def _chunk_pixels(rows: int) -> int:
    """How many pixels P keep a float32 copy [rows, P] within the two limits."""
    bytes_per_pixel = torch.float32.itemsize * max(rows, 1)
    return max(1, min(_MAX_CHUNK_PIXELS, _MAX_CHUNK_BYTES // bytes_per_pixel))


def _check_masks(a: Tensor, b: Tensor) -> None:
    for masks in (a, b):
        if masks.dtype != torch.bool:
            raise ValueError(
                f"masks must be bool, but are {masks.dtype}: threshold them first, "
                "for example `probabilities > 0.5`"
            )
    if a.shape[1:] != b.shape[1:]:
        raise ValueError(
            f"masks must be of one size, but are {tuple(a.shape[1:])} and "
            f"{tuple(b.shape[1:])}: resize one of them first"
        )
