"""Times of published models with random weights, and of selecting from many candidates.

Models are as users run them: optimised, as CUDA graphs, with weights of the precision.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from solo_family.cli.benchmark.benchmark import time_parts
from solo_family.cli.benchmark.benchmark_report import AFTER, BEFORE
from solo_family.cli.benchmark.candidates import candidates_table
from solo_family.modeling.inference import prepare_for_inference

from . import published, rows, settings
from .timing import milliseconds


class Run(NamedTuple):
    """One model on pictures of one size.

    Attributes:
        bars: by batch size, milliseconds that bfloat16 may take on an H100 or H200.
    """

    method: str
    size: tuple[int, int]
    batch_sizes: tuple[int, ...] = (1, 8)
    bars: Mapping[int, float] = MappingProxyType({})


RUNS = (
    Run("SOLOv2", (800, 1333), (1,), {1: 6}),
    Run("SOLOv2", (800, 1066), (1, 8), {8: 24}),
    Run("SparseInst", (640, 853), (1, 8), {1: 4}),
    Run("MaskFormer", (800, 1066), (1, 8), {1: 15}),
    Run("SOLO", (800, 1066)),
    Run("DecoupledSOLO", (800, 1066)),
    Run("InstanceFCN", (800, 1066), (1,), {1: 20}),
)
# Those with a grid, and the bar of 2,000 candidates.
_CANDIDATES = {"SOLOv2": "", "SOLO": "bar 5", "DecoupledSOLO": "bar 5"}


def run() -> None:
    tried: set[str] = set()
    for one in RUNS:
        with rows.case(one.method), torch.no_grad():
            model, image = published.model(one.method), published.image(one.size)
            for precision in ("float32", "bfloat16"):
                for size in one.batch_sizes:
                    _measure(one, model, image, precision, size)
            if one.method in _CANDIDATES and one.method not in tried:
                tried.add(one.method)
                _measure_candidates(one.method, model, image)


def _measure(one: Run, model: Any, image: Tensor, precision: str, batch_size: int) -> None:
    height, width = image.shape[1:]
    half = precision != "float32"
    prepared = prepare_for_inference(model, precision=precision, cuda_graph=True, optimize=True)
    took = milliseconds(
        lambda: prepared([{"image": image} for _ in range(batch_size)]), repeats=10, seconds=0.5
    )
    recorded = len(prepared.graphs) == 1 or not settings.on_gpu()
    notes = [f"bar {one.bars[batch_size]}"] if half and batch_size in one.bars else []
    if batch_size == 1:
        # Each part waited for, so no graph.
        parts = time_parts(prepared, [image], repeats=3, warm_up=0)
        median = {part: 1e3 * statistics.median(parts[part]) for part in (BEFORE, AFTER)}
        notes += [f"{part} {value:.1f} ms" for part, value in median.items()]
    name = f"{one.method} R50 {height}x{width} {precision} batch {batch_size}"
    rows.add(name, recorded, took, "ms", "; ".join(notes))


def _measure_candidates(method: str, model: nn.Module, image: Tensor) -> None:
    counts = [0, 9] if settings.is_tiny() else [0, 100, 500, 2000]
    table = candidates_table(model, image, counts, repeats=5)
    for line in table.splitlines()[2:]:
        count, found, network, select = line.split()
        name = f"{method}: post-processing of {count} candidates"
        bar = _CANDIDATES[method] if count == "2000" else ""
        note = "; ".join(filter(None, (f"{found} instances", f"network {network} ms", bar)))
        rows.add(name, value=float(select), unit="ms", note=note)
