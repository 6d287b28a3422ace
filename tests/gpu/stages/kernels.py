"""Every kernel against float64, or exact integers, on fresh inputs of real sizes."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F

from solo_family.ops import gpu_kernels, pack_masks, unpack_masks
from solo_family.ops.decode_masks import decode_masks
from solo_family.ops.matrix_nms import matrix_nms_decay
from solo_family.ops.paste_masks import paste_masks_with_boxes
from solo_family.ops.resize import resize_masks_with_boxes
from solo_family.ops.window_boxes import window_boxes

from . import references, rows, sampling, settings
from .maps import check_maps

_NEW_SETTING = "decode where torch's new setting allows TF32"
_HALVES = (torch.float16, torch.bfloat16)


def run() -> None:
    print(f"seed {settings.seed()}")
    for choice in ("auto", "triton") if settings.on_gpu() else ("triton",):
        with settings.kernels(choice):
            _check_matrix_nms(choice)
    with settings.kernels(settings.kernel_choice()):
        _check_packing()
        for dtype in (torch.float32, *_HALVES):
            with rows.case(f"decode {dtype}"):
                _check_decoding(f"decode {dtype}", dtype)
        _check_resizing()
        for dtype in (torch.float32, *_HALVES):
            with rows.case(f"maps of {dtype}"):
                check_maps(dtype)
        _check_windows()
        with rows.case("paste"):
            _check_pasting()
        _check_refusals()
        if settings.on_gpu():
            _check_on_gpu()
        # Last, since torch refuses its old settings once a new one is set.
        with rows.case(_NEW_SETTING):
            _check_tensor_float()


def _size() -> tuple[int, int]:
    return (12, 20) if settings.is_tiny() else (200, 336)


def _check_matrix_nms(choice: str) -> None:
    kinds = ("gaussian", "linear")
    for count in (1, 17) if settings.is_tiny() else (1, 16, 100, 500, 2000, 5000):
        masks = sampling.rectangles(count, _size(), count)
        for classes in (1, 80):
            labels, scores = sampling.candidates(count, classes, count)
            for kind in kinds:
                name = f"matrix NMS ({choice}) of {count} masks, {classes} classes, {kind}"
                with rows.case(name):
                    order, decayed = matrix_nms_decay(masks, labels, scores, kind, 2.0, False)
                    expected = references.matrix_nms(masks, labels, scores, kind)[order]
                    error = float((decayed - expected).abs().max())
                    sorts = bool((decayed.diff() <= 0).all()) and len(set(order.tolist())) == count
                    # The linear kernel divides by 1 - c, which may be small.
                    bound = 5e-6 if kind == "linear" else 2e-6
                    rows.add(name, error < bound and sorts, error, "largest error")


def _check_packing() -> None:
    shapes = ((5, 7),) if settings.is_tiny() else ((5, 7), (200, 336), (199, 333))
    for dtype in (torch.float32, *_HALVES, torch.bool):
        for shape in shapes:
            with rows.case(f"pack {dtype} {shape}"):
                soft = sampling.normal(20, *shape).sigmoid()
                masks = soft > 0.5 if dtype == torch.bool else soft.to(dtype)
                packed = pack_masks(masks, None if dtype == torch.bool else 0.5)
                inside = masks if dtype == torch.bool else masks.float() > 0.5
                same = torch.equal(unpack_masks(packed.words, shape), inside)
                same = same and torch.equal(packed.areas, inside.sum((1, 2)))
                error = (packed.maskness - references.maskness(masks, inside)).abs().max()
                rows.add(f"pack {dtype} {shape}", same and error < 1e-5, error, "error of maskness")


def _check_decoding(name: str, dtype: torch.dtype, bound: float = 2e-5) -> None:
    """Bits are wrong only where the logit is within a share of the largest one from 0."""
    count, channels = (70, 32) if settings.is_tiny() else (500, 256)
    kernels = sampling.normal(count, channels).to(dtype)
    features = (sampling.normal(channels, *_size(), offset=1) / 8).to(dtype)
    packed = decode_masks(kernels, features, 0.5)
    logits = references.logits(kernels, features)
    wrong = unpack_masks(packed.words, _size()) != (logits > 0)
    largest = float((logits.abs() * wrong).max())
    note = f"{int(wrong.sum())} of {wrong.numel()} bits differ"
    allowed = bound * float(logits.abs().max())
    rows.add(f"{name}: bits", largest <= allowed, largest, "largest |logit|", note)
    expected = references.maskness(logits.sigmoid(), logits > 0)
    error = (packed.maskness - expected).abs().max()
    rows.add(f"{name}: maskness", error < max(1e-4, bound), error, "largest error")
    last = features[None].to(memory_format=torch.channels_last)[0]
    again = decode_masks(kernels, last, 0.5)
    differ = unpack_masks(again.words ^ packed.words, _size())
    largest = float((logits.abs() * differ).max())
    rows.add(f"{name}: channels last", largest <= allowed, largest, "largest |logit|")


def _check_tensor_float() -> None:
    before = torch.backends.cuda.matmul.fp32_precision
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    try:
        # Both factors are rounded to 11 bits.
        _check_decoding(_NEW_SETTING, torch.float32, 2e-3)
    finally:
        torch.backends.cuda.matmul.fp32_precision = before


def _check_resizing() -> None:
    sizes = ((48, 64),) if settings.is_tiny() else ((480, 640), (800, 1333), (2000, 3000))
    padded, image = ((48, 80), (48, 77)) if settings.is_tiny() else ((800, 1344), (800, 1333))
    rectangles = sampling.rectangles(8, (padded[0] // 4, padded[1] // 4)).float()
    soft = F.avg_pool2d(rectangles[None], 5, 1, 2)[0]
    for output in sizes:
        with rows.case(f"resize to {output}"):
            masks, boxes = resize_masks_with_boxes(soft, padded, image, output, 0.5)
            expected = references.resize(soft, padded, image, output)
            sure = (expected - 0.5).abs() > 2e-6
            differ = masks != (expected > 0.5)
            same = not (differ & sure).any() and torch.equal(boxes, references.boxes(masks).float())
            rows.add(f"resize to {output}", same, int(differ.sum()), "pixels differ")


def _check_windows() -> None:
    """Boxes and areas are exact; sums of probabilities are rounded."""
    sizes = ((5, 7),) if settings.is_tiny() else ((113, 150), (15, 20), (1, 1))
    for k, size in product((3, 5, 7), sizes):
        m = 7 if settings.is_tiny() else 21
        with rows.case(f"windows of {k}x{k} positions on {size}"):
            maps = sampling.normal(k * k, *size, offset=k) - 2
            found = window_boxes(maps, m, 0.5, maskness=True)
            boxes, areas, totals = references.window_boxes(maps.sigmoid(), m, 0.5)
            filled = areas > 0
            same = torch.equal(found.filled, filled)
            same = same and torch.equal(found.boxes[filled], boxes[filled].float())
            error = (found.maskness - totals / areas.clamp(min=1)).abs().max()
            name = f"windows of {k}x{k} positions on {size}"
            rows.add(name, same and error < 1e-6, error, "error of maskness")


def _check_pasting() -> None:
    size, count = ((30, 41), 4) if settings.is_tiny() else ((800, 1066), 100)
    masks = sampling.normal(count, 21, 21).sigmoid()
    boxes = sampling.normal(count, 4, offset=1) * size[0]
    boxes = torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:].abs() + 1], dim=1)
    longest = float((boxes[:, 2:] - boxes[:, :2]).max())
    found, around = paste_masks_with_boxes(masks, boxes, size, 0.5, longest)
    expected = torch.stack([references.paste(*pair, size) for pair in zip(masks, boxes)])
    differ = found != (expected >= 0.5)
    same = not (differ & ((expected - 0.5).abs() > 1e-5)).any()
    same = same and torch.equal(around, references.boxes(found).float())
    rows.add(f"paste {count} masks into {size}", same, int(differ.sum()), "pixels differ")


def _check_refusals() -> None:
    device = settings.device()
    cases: dict[str, Callable[[], Any]] = {
        "integers as masks": lambda: pack_masks(torch.ones(2, 4, 4, device=device).long()),
        "floats without a threshold": lambda: pack_masks(torch.rand(2, 4, 4, device=device)),
        "channels that differ": lambda: decode_masks(
            torch.ones(2, 3, device=device), torch.ones(2, 4, 4, device=device), 0.5
        ),
    }
    for what, call in cases.items():
        with rows.case(f"{what} are refused"):
            try:
                call()
            except ValueError as error:
                rows.add(f"{what} are refused", note=error)
            else:
                rows.add(f"{what} are refused", False, note="accepted in silence")


def _check_on_gpu() -> None:
    for name, check in (
        ("a stream of its own", _check_stream),
        ("another GPU", _check_another_gpu),
        ("run lengths", _check_run_lengths),
        ("which kernels are used", _check_used),
    ):
        with rows.case(name):
            check()
    if not settings.is_tiny():
        with rows.case("offsets beyond 2**31"):
            _check_large()


def _check_used() -> None:
    one = torch.ones(1, device="cuda")
    for kernel in (*gpu_kernels.TRITON, *gpu_kernels.CUDA):
        rows.add(f"{kernel} is used", gpu_kernels.runs(kernel, one))


def _check_run_lengths() -> None:
    if find_spec("solo_family.ops.run_lengths") is None:
        return
    run_lengths = import_module("solo_family.ops.run_lengths").run_lengths
    masks = sampling.rectangles(100, (480, 640))
    pairs = zip(run_lengths(masks), run_lengths(masks.cpu()))
    rows.add("run lengths as on the CPU", all(torch.equal(one, other) for one, other in pairs))


def _check_stream() -> None:
    masks = sampling.rectangles(200, _size()).half()
    arguments = (masks, *sampling.candidates(200, 1), "gaussian", 2.0, False, 0.5)
    expected = matrix_nms_decay(*arguments)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        found = matrix_nms_decay(*arguments)
    torch.cuda.current_stream().wait_stream(stream)
    same = all(torch.equal(one, other) for one, other in zip(found, expected))
    rows.add("matrix NMS on a stream of its own", same)


def _check_another_gpu() -> None:
    if torch.cuda.device_count() > 1:
        areas = pack_masks(torch.ones(2, 8, 8, dtype=torch.bool, device="cuda:1")).areas
        rows.add("a tensor of cuda:1 from cuda:0", areas.tolist() == [64, 64])


def _check_large() -> None:
    masks = torch.zeros(33000, 256, 256, dtype=torch.bool, device="cuda")
    masks[-1, 10:20, 10:30] = masks[0] = True
    areas = pack_masks(masks).areas[[0, 1, -1]].tolist()
    rows.add("pack 2.16e9 pixels", areas == [65536, 0, 200], note=areas)
    arguments = (masks[-500:], *sampling.candidates(500, 1), "gaussian", 2.0, False)
    order, _ = matrix_nms_decay(*arguments)
    rows.add("matrix NMS of masks at the end", len(order) == 500)
    del masks, arguments
    soft = torch.zeros(400, 500, 752, device="cuda")
    soft[-1, 100:200, 100:300] = 1
    sizes = (2000, 3008), (2000, 3000), (2000, 3000)
    found, boxes = resize_masks_with_boxes(soft, *sizes, 0.5)
    expected = references.resize(soft[-1:], *sizes) > 0.5
    same = torch.equal(found[-1:], expected) and not found[0].any()
    rows.add("resize to 2.4e9 pixels", same, note=boxes[-1].tolist())
