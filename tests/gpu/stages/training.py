"""Steps of every method in three precisions, and under DDP with one process."""

from __future__ import annotations

import math
import os
import socket

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from tests.conftest import picture, tiny_model

from . import rows, settings, tiny


def run() -> None:
    for method in settings.METHODS:
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            with rows.case(f"{method} {dtype}"):
                _train(method, dtype)
    _start_processes()
    try:
        for method in settings.METHODS:
            with rows.case(f"{method} under DDP"):
                _train_distributed(method)
    finally:
        dist.destroy_process_group()


def _train(method: str, dtype: torch.dtype) -> None:
    device, steps = settings.device(), 3 if settings.is_tiny() else 15
    model = tiny_model(method).to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    # The default's first steps, too large a scale for any gradient, are skipped.
    scaler = torch.amp.GradScaler(device, 1024.0, enabled=dtype == torch.float16)
    if settings.on_gpu():
        torch.cuda.reset_peak_memory_stats()
    losses = [_step(model, optimizer, scaler, dtype) for _ in range(steps)]
    finite = all(math.isfinite(loss) for loss in losses)
    # So few steps as try the script may not lower it.
    lower = settings.is_tiny() or losses[-1] < losses[0]
    note = "finite and lower"
    if settings.on_gpu():
        note += f"; peak {torch.cuda.max_memory_allocated() / 2**20:.0f} MiB"
    name = f"{method} {dtype}, {steps} steps"
    rows.add(name, finite and lower, losses[-1] / losses[0], "of the first loss", note)


def _step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    dtype: torch.dtype,
) -> float:
    batch = [picture(seed=1), picture(seed=2, height=80), picture(seed=3, objects=0)]
    half = dtype != torch.float32
    with torch.autocast(settings.device(), dtype=dtype if half else None, enabled=half):
        loss = sum(model(batch).values())
    optimizer.zero_grad()
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
    return float(loss.detach())


def _start_processes() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    dist.init_process_group("nccl" if settings.on_gpu() else "gloo", rank=0, world_size=1)


def _train_distributed(method: str) -> None:
    model = DistributedDataParallel(
        tiny_model(method).to(settings.device()).train(),
        device_ids=[0] if settings.on_gpu() else None,
        broadcast_buffers=False,
    )
    for seed in (1, 2):
        loss = sum(model([picture(seed=seed), picture(seed=9, objects=0)]).values())
        loss.backward()
    rows.add(f"{method} under DDP, two steps", tiny.gradients_are_finite(model))
