"""How often the host waits for the GPU for one picture, and how much it launches."""

from __future__ import annotations

import math

import torch
from torch import nn

from tests.waits import count_waits

from . import rows, settings, tiny

# The most waits for a picture.
BARS = {
    "SOLOv2": 1,
    "SparseInst": 1,
    "MaskFormer": 2,
    "SOLO": 2,
    "DecoupledSOLO": 2,
    "InstanceFCN": 3,
}


def run() -> None:
    for method in settings.METHODS:
        with rows.case(method), torch.no_grad():
            model = tiny.model(method).to(settings.device())
            for pictures in (1, 2):
                _count(method, model, pictures)
            if settings.on_gpu():
                _count_launches(method, model)


def _count(method: str, model: nn.Module, pictures: int) -> None:
    *first, batch = [tiny.batch(*((seed, 64) for seed in range(pictures))) for _ in range(4)]
    for other in first:
        model(other)
    with count_waits(settings.device()) as waits:
        model(batch)
    # On a CPU, where operators and selection go other ways, a count only tries the script.
    bar = BARS[method] * pictures if settings.on_gpu() else math.inf
    where = ", ".join(f"{line} {count}" for line, count in waits.where.most_common(6))
    name = f"{method}, {pictures} picture{'s' if pictures > 1 else ''}"
    rows.add(name, waits.total <= bar, waits.total, "waits", f"bar {bar}; {where}")


def _count_launches(method: str, model: nn.Module) -> None:
    activities, batch = [torch.profiler.ProfilerActivity.CUDA], tiny.batch((0, 64))
    with torch.profiler.profile(activities=activities) as profiler:
        model(batch)
        torch.cuda.synchronize()
    events = [event for event in profiler.events() if event.device_type.name == "CUDA"]
    rows.add(f"{method}, 1 picture", value=len(events), unit="kernels and copies")
