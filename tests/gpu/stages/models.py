"""Six methods on the GPU against the CPU: float32, half precision, batches, nothing to find."""

from __future__ import annotations

import copy

import torch
from torch import nn

from . import rows, settings, tiny

# Rounding may move a pixel across a mask's threshold, or a score across its own.
_SHARE = 0.97


def run() -> None:
    tiny.exact()
    for method in settings.METHODS:
        with rows.case(method), torch.no_grad():
            _check(method)


def _check(method: str) -> None:
    device = settings.device()
    model = tiny.model(method)
    batch = ((1, 64), (2, 64), (3, 96))
    expected = model(tiny.batch(*batch))
    there = copy.deepcopy(model).to(device)
    found = there(tiny.batch(*batch))
    _add(f"{method} float32, batch of 3, two sizes", found, expected)
    if "panoptic_seg" in expected[0]:
        one, other = (result[0]["panoptic_seg"][0].cpu() for result in (found, expected))
        share = float((one == other).float().mean())
        rows.add(f"{method} panoptic segmentation", share > 0.99, share, "of the pixels alike")
    _add(f"{method} alone as in a batch", there(tiny.batch(batch[0])), found[:1])
    for dtype in (torch.float16, torch.bfloat16):
        with rows.case(f"{method} {dtype}"):
            _check_half(method, there, dtype, expected)
    last = there.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    _add(f"{method} channels last", last(tiny.batch(*batch)), expected)
    nothing = tiny.model(method, found=False).to(device)(tiny.batch(batch[0]))
    number = len(nothing[0]["instances"])
    rows.add(f"{method} where nothing is to be found", value=number, unit="instances")


def _add(name: str, found: tiny.Batch, expected: tiny.Batch) -> None:
    shares = [tiny.share_found(one, other) for one, other in zip(found, expected)]
    counts = [len(result["instances"]) for result in expected]
    enough = len(found) == len(expected) and min(shares) >= _SHARE
    rows.add(name, enough, min(shares), "of instances", f"of {counts} alike")


def _check_half(method: str, model: nn.Module, dtype: torch.dtype, expected: tiny.Batch) -> None:
    with torch.autocast(settings.device(), dtype=dtype):
        found = model(tiny.batch((1, 64), (2, 64), (3, 96)))
    finite = all(bool(result["instances"].scores.isfinite().all()) for result in found)
    share = sum(tiny.share_found(a, b) for a, b in zip(found, expected)) / len(expected)
    rows.add(f"{method} {dtype}", finite, share, "of instances", "finite; alike as in float32")
