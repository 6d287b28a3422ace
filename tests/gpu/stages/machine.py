"""What the GPU and its host can do at best: what other figures are read beside."""

from __future__ import annotations

import time

import torch

from . import rows, settings
from .timing import copy_of, milliseconds


def run() -> None:
    if not settings.on_gpu():
        return rows.needs_a_gpu()
    num_bytes = 512 * 2**20
    speed = 2 * num_bytes / milliseconds(copy_of(num_bytes)) / 1e6
    rows.add("copy of 512 MiB, bytes read and written", value=speed, unit="GB/s")
    one = torch.zeros(1, device="cuda")
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(1000):
        one.add_(1)
    launch = 1e3 * (time.perf_counter() - start)
    rows.add("launch of an operator of torch", value=launch, unit="us")
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(200):
        one.item()
    wait = 1e6 * (time.perf_counter() - start) / 200
    rows.add("a wait of the host", value=wait, unit="us")
