"""Threshold binary masks, and compute areas, boxes, exact intersections and IoU in bounded memory.

N, M masks; h w the masks' size; P pixels of one chunk; L cells along one axis.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .checks import check_binary, check_comparable, check_dimensions

# A float32 sum of ones is exact below 2**24; a sixteenth of that is safe even with a backend that
# sums in an order of its own.
_MAX_CHUNK_PIXELS = 2**20
_MAX_CHUNK_BYTES = 32 * 2**20
# Pairs of masks whose IoU is computed at a time, where there are many.
_BLOCK_PAIRS = 2**20
# Rows of a product on a CPU of which only the columns from its first row on are needed.
_STRIP = 128
# Number of masks on a GPU from which int8 products are used.
_INT8_FROM = 500


def binary_masks(masks: Tensor, mask_threshold: float | None) -> Tensor:
    """Threshold masks that are not bool yet.

    Args:
        masks: bool [N, h, w], or floating-point with a `mask_threshold`.
        mask_threshold: a pixel belongs to its mask where its value is above this.

    Returns:
        bool [N, h, w].
    """
    if masks.dtype == torch.bool:
        return masks
    assert mask_threshold is not None
    # A Python number, or a tensor without dimensions, would be rounded to the masks' half precision
    # before the comparison; a tensor with a dimension makes it a float32 comparison.
    dtype = torch.promote_types(masks.dtype, torch.float32)
    return masks > masks.new_full((1,), mask_threshold, dtype=dtype)


def mask_intersections(a: Tensor, b: Tensor | None = None) -> Tensor:
    """Count the pixels that each mask of `a` shares with each mask of `b`.

    The counts are exact whatever the size of the masks, also under autocast and with TF32 matrix
    products. Beside a few [N, M] matrices, at most 32 MB are used, whatever the masks' size.

    Args:
        a: bool [N, h, w].
        b: bool [M, h, w]; None for `a` itself.

    Returns:
        int64 [N, M], in pixels.
    """
    assert a.dtype == torch.bool
    assert b is None or b.dtype == torch.bool
    a_flat = a.flatten(1)
    b_flat = a_flat if b is None else b.flatten(1)
    if _has_int8_products(a_flat, b_flat):
        return _int8_products(a_flat, b_flat)
    rows = len(a) if b is None else len(a) + len(b)
    chunk = _chunk_pixels(rows)
    total = a.new_zeros((a_flat.shape[0], b_flat.shape[0]), dtype=torch.int64)
    # Autocast would round the counts to half precision: float16 can't represent 2049.
    with torch.autocast(device_type=a.device.type, enabled=False):
        for a_chunk, b_chunk in zip(a_flat.split(chunk, dim=1), b_flat.split(chunk, dim=1)):
            left = a_chunk.float()
            right = left if b is None else b_chunk.float()
            total += (left @ right.T).long()
    return total


def later_intersections(masks: Tensor) -> Tensor:
    """Count the pixels that each mask shares with itself and with those after it.

    The counts are exact, as those of `mask_intersections`. Without int8 products each mask is
    converted to float32 once, and little more than half of the products are computed.

    Args:
        masks: bool [N, h, w].

    Returns:
        int32 [N, N], in pixels; what is left of the diagonal may be anything.
    """
    assert masks.dtype == torch.bool
    count, flat = len(masks), masks.flatten(1)
    counts = torch.zeros((count, count), dtype=torch.int32, device=masks.device)
    if masks.is_cuda or _has_int8_products(flat, flat):
        for rows in row_blocks(count):
            later = slice(rows.start, None)
            counts[rows, later] = mask_intersections(masks[rows], masks[later]).int()
        return counts
    with torch.autocast(device_type=masks.device.type, enabled=False):
        for chunk in flat.split(_chunk_pixels(count), dim=1):
            values = chunk.float()
            for start in range(0, count, _STRIP):
                rows, later = slice(start, start + _STRIP), slice(start, None)
                counts[rows, later] += (values[rows] @ values[later].T).int()
    return counts


def mask_iou(a: Tensor, b: Tensor | None = None) -> Tensor:
    """Return the intersection over union of each mask of `a` with each mask of `b`.

    Args:
        a: bool [N, h, w].
        b: bool [M, h, w]; None for `a` itself.

    Returns:
        float32 [N, M] in [0, 1]; 0 where the union is empty.

    Raises:
        ValueError: masks are not bool [N, h, w], or differ in size or device.
    """
    check_comparable(a, a if b is None else b)
    intersections = mask_intersections(a, b)
    if b is None:
        return iou_within(intersections)
    return iou_from(intersections, mask_areas(a), mask_areas(b))


def row_blocks(count: int) -> list[slice]:
    """Return slices of [count, count] whose rows are few enough to be computed with at a time."""
    step = max(1, _BLOCK_PAIRS // max(count, 1))
    return [slice(start, min(start + step, count)) for start in range(0, count, step)]


def iou_within(intersections: Tensor) -> Tensor:
    """Return the IoU, float32 [N, N], of masks with each other from their intersections, [N, N]."""
    # The intersection of a mask with itself is its area.
    areas = intersections.diagonal()
    return iou_from(intersections, areas, areas)


def iou_from(intersections: Tensor, a_areas: Tensor, b_areas: Tensor) -> Tensor:
    """Return the IoU, float32 [..., N, M], from intersections, likewise, and areas, [..., N or M].

    All are int64, or float32 if no mask has 2**24 pixels.
    """
    unions = a_areas[..., :, None] + b_areas[..., None, :] - intersections
    # An empty union has an empty intersection: 0 / 1 makes its IoU 0 rather than NaN.
    return intersections.float() / unions.clamp(min=1)


def mask_areas(masks: Tensor) -> Tensor:
    """Count the pixels of each mask.

    Args:
        masks: bool [N, h, w].

    Returns:
        int64 [N].
    """
    assert masks.dtype == torch.bool
    if masks.is_cuda:
        return masks.flatten(1).sum(dim=1)
    # On a CPU torch adds up bools through an int64 copy of them, eight bytes for each pixel; a
    # product with ones is ten times as fast where there are int8 products, and small elsewhere.
    return mask_intersections(masks, masks.new_ones((1, *masks.shape[1:])))[:, 0]


def _has_int8_products(a: Tensor, b: Tensor) -> bool:
    """Return whether int8 products of bool [N, P] and [M, P] are faster than those of float32."""
    if a.is_cuda:
        # For 500 masks five times as fast on an H200; for fewer it was not measured.
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
    """Multiply the rows of bool [N, P] and [M, P] to int64 [N, M]; on a CPU no byte is copied."""
    if not (a.numel() and b.numel()):
        return a.new_zeros((len(a), len(b)), dtype=torch.int64)
    sizes = len(a), len(b)
    if a.is_cuda:
        a, b = _padded(a), _padded(b)
    products = torch._int_mm(a.view(torch.int8), b.view(torch.int8).T)
    return products[: sizes[0], : sizes[1]].long()


def _padded(pixels: Tensor) -> Tensor:
    """Pad bool [N, P] with zeros to multiples of 8, and align it for cuBLAS."""
    rows, columns = -pixels.shape[0] % 8, -pixels.shape[1] % 8
    if rows or columns:
        return F.pad(pixels, (0, columns, 0, rows))
    return pixels.clone() if pixels.data_ptr() % 16 else pixels


def _chunk_pixels(rows: int) -> int:
    """Return how many pixels P keep a float32 copy [rows, P] within the two limits."""
    bytes_per_pixel = torch.float32.itemsize * max(rows, 1)
    return max(1, min(_MAX_CHUNK_PIXELS, _MAX_CHUNK_BYTES // bytes_per_pixel))


def mask_boxes(masks: Tensor) -> Tensor:
    """Return the smallest box around each mask, as detectron2's `BitMasks.get_bounding_boxes` does.

    Args:
        masks: bool [N, h, w]; or uint8 or int32 of 0 and 1, which exported graphs need: a tracer
            can't record a view of bools as bytes, and TensorRT can't compute with bytes.

    Returns:
        float32 [N, 4], x0, y0, x1, y1 in pixels of the masks, x1 and y1 exclusive; zeros for a mask
        without pixels.

    Raises:
        ValueError: the masks are neither.
    """
    check_dimensions(masks)
    if masks.dtype not in (torch.uint8, torch.int32):
        check_binary(masks)
    if not masks.numel():
        return torch.zeros((len(masks), 4), device=masks.device)
    # On a CPU the maximum of bytes is computed many times as fast as whether any bool is true.
    octets = masks
    if masks.dtype == torch.bool:
        octets = masks.byte() if torch.jit.is_tracing() else masks.view(torch.uint8)
    x0, x1 = _extents(octets.amax(dim=1))
    y0, y1 = _extents(octets.amax(dim=2))
    return torch.stack([x0, y0, x1, y1], dim=1).float()


def _extents(occupied: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first occupied cell of uint8 [N, L], and the one after the last; 0 for none."""
    # Of equal values the first counts: 0 where all cells are empty.
    after = occupied.flip(1).argmax(dim=1)
    return occupied.argmax(dim=1), (occupied.shape[1] - after) * occupied.amax(dim=1)
