"""Times of what runs on a GPU: alone, with a cold L2 cache, as a median of events."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from . import settings

Function = Callable[[], Any]
# More than the L2 cache of any GPU of today.
_JUNK_BYTES = 96 * 2**20


def milliseconds(function: Function, *, repeats: int = 30, seconds: float = 0.3) -> float:
    """Return the median time of a run.

    On a GPU that of CUDA events, the queue empty before each: a short function's includes what
    the host needs to launch it.

    Args:
        repeats: timed runs.
        seconds: after which no more runs are made, from the fifth on.
    """
    if not settings.on_gpu():
        start = time.perf_counter()
        function()
        return 1e3 * (time.perf_counter() - start)
    for _ in range(3):
        function()
    junk = torch.empty(_JUNK_BYTES, dtype=torch.uint8, device="cuda")
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < repeats and (len(times) < 5 or time.perf_counter() < end):
        junk.zero_()
        times.append(_one(function))
    return statistics.median(times)


def _one(function: Function) -> float:
    before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    before.record()
    function()
    after.record()
    torch.cuda.synchronize()
    return before.elapsed_time(after)


def copy_of(num_bytes: int) -> Function:
    """Return what copies so many bytes on the device."""
    source = torch.ones(max(num_bytes, 1), dtype=torch.uint8, device=settings.device())
    target = torch.empty_like(source)
    return lambda: target.copy_(source)
