"""Run each kernel once on a small input, beside torch, to decide whether a device uses it.

The kernels are called directly, as are torch's implementations, on the CPU, where no setting for
GPUs (TensorFloat-32, determinism) matters. Triton's kernels are imported by their checks, so that a
check reports it if Triton is missing. Values are small multiples of powers of two, so that products
and their sums are exact in any order and precision, and none is near its threshold: integers are
compared bit by bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .decode_masks import dynamic_conv
from .gpu_kernels import CHECKS
from .masks import mask_boxes
from .matrix_nms_bits import matrix_nms_bits
from .matrix_nms_torch import decay_by_class, matrix_nms_plain
from .packed_masks import measure
from .paste_masks import paste_parts
from .resize import resize_soft_masks
from .window_boxes import window_boxes_of_rows

# Tolerance of means and factors: a GPU's quotients are less exact, which 1 - IoU magnifies in NMS.
_TOLERANCE = 1e-4
_DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def _check_pack(device: torch.device) -> None:
    from .packing_triton import pack_masks_triton

    # More words than one program packs; one mask without pixels.
    values = _waves(4, 91, 97)
    values[2] = -1
    for dtype, logits in product(_DTYPES, (False, True)):
        soft = values.to(dtype)
        actual = pack_masks_triton(soft.to(device), 0.3125, logits=logits)
        _compare(f"packing of {dtype}, logits={logits}", actual, measure(soft, 0.3125, logits))
    actual = pack_masks_triton((values > 0).to(device), None)
    _compare("packing of bool", actual, measure(values > 0, None))


def _check_decode(device: torch.device) -> None:
    from .decode_masks_triton import decode_masks_triton

    # A few more than the sides of a program's block.
    kernels, features = _waves(70, 40), _waves(40, 19, 45)
    # Logits are multiples of 1/64, none of which is near this threshold's.
    threshold = 0.3
    expected = measure(dynamic_conv(kernels, features).sigmoid(), threshold)
    for dtype in _DTYPES:
        inputs = kernels.to(device, dtype), features.to(device, dtype)
        _compare(f"decoding of {dtype}", decode_masks_triton(*inputs, threshold), expected)


def _check_resize(device: torch.device) -> None:
    from .resize_masks_triton import resize_masks_triton

    # Four times and twice as large: weights are eighths and quarters, values multiples of 1/2**13.
    sizes, threshold = ((16, 80), (8, 72), (16, 144)), 0.3
    values = _waves(2, 4, 20)
    # One mask ends within the picture, one has no pixels.
    values[0, :, 12:] = values[1] = -1
    expected = resize_soft_masks(values, *sizes) > threshold
    for dtype in _DTYPES:
        actual = resize_masks_triton(values.to(device, dtype), *sizes, threshold)
        _compare(f"resizing of {dtype}", actual, (expected, mask_boxes(expected)))


def _check_nms(device: torch.device) -> None:
    from .matrix_nms_triton import decay_by_class_triton

    count = 70
    soft = _waves(count, 5, 20)
    rows = torch.arange(count, device="cpu").flip(0)
    labels = rows.flip(0) // 50
    cases = ((soft > 0, "linear"), (soft.half(), "gaussian"), (measure(soft, 0.0).words, "linear"))
    for masks, kernel in cases:
        threshold = 0.0 if masks.is_floating_point() else None
        inputs = masks.to(device), rows.to(device), labels.to(device)
        actual = decay_by_class_triton(*inputs, kernel, 2.0, threshold)
        expected = decay_by_class(masks, rows, labels, kernel, 2.0, threshold)
        _compare(f"matrix NMS of {masks.dtype}, {kernel}", (actual,), (expected,))


def _check_windows(device: torch.device) -> None:
    from .window_boxes_triton import window_boxes_triton

    # More windows than one program has, of bins that differ in size, of more rows than one step
    # has; many masks are empty, and others narrower below than above.
    positions, size, threshold = 3, 20, 0.3
    logits = _waves(positions**2, 19, 9) - 1.5
    logits[:, 8:, 4:] = -8
    probabilities = logits.sigmoid()
    found = window_boxes_triton(probabilities.to(device), positions, size, threshold)
    mean = found.totals / found.areas.clamp(min=1)
    expected = window_boxes_of_rows(logits, size, threshold, True, range(19))
    assert expected.maskness is not None
    actual = found.boxes, found.areas > 0, mean
    _compare("boxes of windows", actual, (expected.boxes, expected.filled, expected.maskness))


def _check_paste(device: torch.device) -> None:
    from .paste_masks_triton import paste_masks_triton

    # Cells of 8 x 4 pixels, from any pixel on: shares are multiples of 1/16 and 1/8. More pixels
    # than one program has; the last mask lies over the image's corner.
    size, threshold = (40, 80), 0.3
    masks, corners = _waves(3, 6, 6), _numbers([[3.0, 2.0], [25.0, 14.0], [-30.0, -9.0]])
    boxes = torch.cat([corners, corners + _numbers([48.0, 24.0])], dim=1)
    expected = paste_parts(masks, boxes, size, threshold, 48.0)
    actual = paste_masks_triton(masks.to(device), boxes.to(device), size, threshold)
    _compare("pasting", actual, (expected, mask_boxes(expected)))


def _check_bits(device: torch.device) -> None:
    # More masks than the sides of a program's square, and words that are read 1, 2, 4 at a time.
    count = 70
    scores = torch.linspace(0.9, 0.2, count, device="cpu").flip(0)
    labels = torch.arange(count, device="cpu") % 3
    for width, kernel in ((20, "linear"), (26, "gaussian"), (52, "linear")):
        soft = _waves(count, 5, width)
        packed = measure(soft, 0.0).words
        for masks in (soft > 0, soft.half(), packed):
            threshold = 0.0 if masks.is_floating_point() else None
            inputs = masks.to(device), labels.to(device), scores.to(device)
            actual = matrix_nms_bits(*inputs, kernel, 2.0, threshold, None)
            expected = matrix_nms_plain(soft > 0, labels, scores, kernel, 2.0, False)
            what = f"matrix NMS by single bits, of {masks.dtype}, {kernel}"
            _compare(what, [_by_mask(*actual)], [_by_mask(*expected)])


def _check_group_norm(device: torch.device) -> None:
    from .group_norm_triton import group_norm_triton

    # A map that one program holds, and one of several parts, whose means differ.
    for height, width, groups in ((5, 9, 4), (93, 97, 2)):
        values = _waves(2, 24, height, width) + torch.arange(height, device="cpu")[:, None] / 8
        weight, bias = _waves(24) + 1, _waves(24)
        for dtype in _DTYPES:
            last = values.to(device, dtype).to(memory_format=torch.channels_last)
            factors = weight.to(device, dtype), bias.to(device, dtype)
            actual = group_norm_triton(last, groups, *factors, 1e-5, True)
            given, scale, shift = (part.cpu().float() for part in (last.contiguous(), *factors))
            expected = torch.group_norm(given, groups, scale, shift, 1e-5).relu()
            _compare_rounded(f"group norm of {dtype}", actual, expected)


def _check_resize_maps(device: torch.device) -> None:
    from .resize_maps_triton import resize_maps_triton

    # Larger, in part smaller, and more channels than one program has.
    values = _waves(2, 264, 5, 12)
    for size in ((10, 24), (13, 7)):
        bilinear = F.interpolate(values, size=size, mode="bilinear", align_corners=False)
        nearest = F.interpolate(values, size=size, mode="nearest")
        for dtype in _DTYPES:
            last = values.to(device, dtype).to(memory_format=torch.channels_last)
            other = torch.ones_like(nearest).to(device, dtype)
            other = other.to(memory_format=torch.channels_last)
            what = f"resizing of maps of {dtype}"
            _compare_rounded(what, resize_maps_triton(last, size, True), bilinear)
            _compare_rounded(what, resize_maps_triton(last, size, False, other), nearest + 1)


def _check_max_pool(device: torch.device) -> None:
    from .max_pool_triton import max_pool_triton

    values = _waves(2, 264, 5, 12)
    values[0, 3, 2, 2] = float("nan")
    expected = F.max_pool2d(values, kernel_size=3, stride=2, padding=1)
    for dtype in _DTYPES:
        last = values.to(device, dtype).to(memory_format=torch.channels_last)
        _compare_rounded(f"pooling of {dtype}", max_pool_triton(last), expected)


def _check_normalise(device: torch.device) -> None:
    from .normalise_triton import normalise_triton

    image = (_waves(3, 37, 41) * 32 + 128).clamp(0, 255).to(torch.uint8)
    mean, std = _numbers([103.53, 116.28, 123.675]), _numbers([57.375, 1.0, 58.395])
    expected = (image - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    expected = F.pad(expected, (0, 23, 0, 27))
    for dtype, given in product(_DTYPES, (image, image.float())):
        actual = torch.empty((1, 3, 64, 64), dtype=dtype, device=device)
        actual = actual.to(memory_format=torch.channels_last)[0]
        normalise_triton(given.to(device), mean.to(device), std.to(device), actual)
        _compare_rounded(f"normalising to {dtype}", actual, expected)


def _compare_rounded(what: str, actual: Tensor, expected: Tensor) -> None:
    """Compare values that were rounded to their dtype once, or nearly so."""
    unit = torch.finfo(actual.dtype).eps
    least = max(_TOLERANCE, unit)
    if not torch.allclose(actual.cpu().float(), expected, rtol=unit, atol=least, equal_nan=True):
        raise AssertionError(f"{what} gives other results than torch")


def _by_mask(order: Tensor, decayed: Tensor) -> Tensor:
    """Return decayed scores in the order of the masks, as near ties may come in any order."""
    result = torch.zeros_like(decayed)
    result[order] = decayed
    return result


def _numbers(values: list[Any]) -> Tensor:
    """Return a tensor on the CPU, whatever the default device and dtype."""
    return torch.tensor(values, device="cpu", dtype=torch.float32)


def _waves(*shape: int) -> Tensor:
    """Return smooth multiples of 1/8 from -2 to 2, float32, without torch's random numbers."""
    phase = torch.zeros(shape, device="cpu", dtype=torch.float32)
    for axis, side in enumerate(reversed(shape)):
        places = torch.arange(side, device="cpu", dtype=torch.float32)
        phase += (0.35 + 1.3 * axis) * places.view(-1, *[1] * axis)
    return (torch.sin(phase) * 16).round() / 8


def _compare(what: str, actual: Sequence[Tensor], expected: Sequence[Tensor]) -> None:
    for one, other in zip(actual, expected):
        one = one.cpu()
        if one.is_floating_point():
            same = torch.allclose(one, other, rtol=0, atol=_TOLERANCE)
        else:
            same = torch.equal(one, other)
        if not same:
            raise AssertionError(f"{what} gives other results than torch")


CHECKS.update(
    pack=_check_pack,
    decode=_check_decode,
    resize=_check_resize,
    nms=_check_nms,
    windows=_check_windows,
    paste=_check_paste,
    bits=_check_bits,
    group_norm=_check_group_norm,
    resize_maps=_check_resize_maps,
    normalise=_check_normalise,
    max_pool=_check_max_pool,
)
