"""Measure times and peak memory of functions in turns, so that a busy machine affects all alike."""

import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from ...heap import give_back
from ...progress import Progress

Function = Callable[[], Any]
_SECONDS_WITHOUT_PROGRESS = 2
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def median_seconds(
    functions: Mapping[str, Function], device: torch.device, *, repeats: int, warm_up: int
) -> dict[str, float]:
    """Return each function's median time in seconds; they run in turns.

    Args:
        functions: the functions to time, by name.
        device: the device that they run on; its queue is empty before and after each run.
        repeats: timed runs of each.
        warm_up: untimed runs of each before them.
    """
    for function in functions.values():
        for _ in range(warm_up):
            function()
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in Progress(range(repeats), "runs", delay=_SECONDS_WITHOUT_PROGRESS, leave=False):
        for name, function in functions.items():
            seconds[name].append(_seconds(function, device))
    return {name: statistics.median(values) for name, values in seconds.items()}


def _seconds(function: Function, device: torch.device) -> float:
    if device.type != "cuda":
        start = time.perf_counter()
        function()
        return time.perf_counter() - start
    start_event, end_event = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize(device)
    start_event.record()
    function()
    end_event.record()
    torch.cuda.synchronize(device)
    return start_event.elapsed_time(end_event) / 1000


def peak_bytes(function: Function, device: torch.device) -> int | None:
    """Return the memory in bytes that a run needs beyond what was in use; None if unknown.

    On a CPU it is the memory of the process, which gives back what is free before.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        function()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    give_back()
    try:
        # Writing a 5 makes Linux reset the peak.
        _CLEAR.write_text("5", encoding="utf-8")
        before = _resident("VmRSS")
        function()
        return max(0, _resident("VmHWM") - before)
    except OSError:
        return None


def _resident(key: str) -> int:
    lines = _STATUS.read_text(encoding="utf-8").splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1]) * 1024


def cuda_graph(function: Function) -> Function:
    """Return a function that replays the given function's work on the GPU, without the host."""
    for _ in range(3):
        function()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        function()
    return graph.replay
