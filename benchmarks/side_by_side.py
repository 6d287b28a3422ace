"""Times, memory and results of two models that take turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

Run = Callable[[], Any]

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def interleaved_seconds(
    runs: Mapping[str, Run], device: str, repeats: int, clock: str = "wall"
) -> dict[str, float]:
    """Return each run's median time in seconds; they take turns, after two of each to warm up."""
    seconds: dict[str, list[float]] = {who: [] for who in runs}
    for _ in range(2):
        for run in runs.values():
            run()
    for _ in range(repeats):
        for who, run in runs.items():
            _wait(device)
            start = CLOCKS[clock]()
            run()
            _wait(device)
            seconds[who].append(CLOCKS[clock]() - start)
    return {who: statistics.median(values) for who, values in seconds.items()}


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def peak_mib(run: Run, device: str) -> float | None:
    """Return the MiB of the GPU that a run needs beyond what was in use before; None on a CPU."""
    if device != "cuda":
        return None
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def graphs_mib(device: str) -> float:
    """Return the MiB that CUDA graphs keep to themselves, which no count of tensors shows."""
    if device != "cuda":
        return 0.0
    segments = torch.cuda.memory_snapshot()
    own = (part for part in segments if tuple(part.get("segment_pool_id", (0, 0))) != (0, 0))
    return sum(part["total_size"] for part in own) / 2**20


def agreement(theirs: list[dict[str, Any]], ours: list[dict[str, Any]]) -> str:
    """Say how alike two lists of results are."""
    if "panoptic_seg" in theirs[0]:
        maps = [[result["panoptic_seg"][0].cpu() for result in who] for who in (theirs, ours)]
        shares = [float((a == b).float().mean()) for a, b in zip(*maps)]
        return f"{100 * min(shares):.2f} % of pixels"
    if "sem_seg" in theirs[0]:
        gaps = [_gap(a["sem_seg"], b["sem_seg"]) for a, b in zip(theirs, ours)]
        return f"{max(gaps):.1e}"
    scores = [[result["instances"].scores for result in who] for who in (theirs, ours)]
    counts = ", ".join(f"{len(a)}/{len(b)}" for a, b in zip(*scores))
    gaps = []
    for a, b in zip(*scores):
        common = min(len(a), len(b))
        best_a, best_b = (values.sort(descending=True)[0][:common] for values in (a, b))
        gaps.append(_gap(best_a, best_b) if common else 0.0)
    return f"found {counts}; scores {max(gaps):.1e}"


def _gap(a: Tensor, b: Tensor) -> float:
    return float((a - b.to(a.device)).abs().max())
