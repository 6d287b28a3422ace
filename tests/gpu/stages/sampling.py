"""Random inputs, made on the device that they are for.

Shape letters: N masks; h w their size; K classes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from . import settings


def generator(offset: int = 0) -> torch.Generator:
    """Of the run's seed, and a number that makes inputs differ."""
    return torch.Generator(settings.device()).manual_seed(settings.seed() + offset)


def rectangles(count: int, size: tuple[int, int], offset: int = 0) -> Tensor:
    """Return masks of an object's size, bool [N, h, w]; some overlap, some have no pixels."""
    device, random = settings.device(), generator(offset)
    sides = torch.tensor(size, device=device)
    start = torch.rand(count, 2, generator=random, device=device) * sides
    extent = torch.rand(count, 2, generator=random, device=device)
    stop = start + (0.05 + 0.4 * extent) * sides
    y, x = (torch.arange(side, device=device) for side in size)
    rows = (y >= start[:, :1]) & (y < stop[:, :1])
    columns = (x >= start[:, 1:]) & (x < stop[:, 1:])
    return rows[:, :, None] & columns[:, None, :]


def candidates(count: int, classes: int, offset: int = 0) -> tuple[Tensor, Tensor]:
    """Return labels, int64 [N] below K, and scores, float32 [N]."""
    device, random = settings.device(), generator(offset)
    labels = torch.randint(0, classes, (count,), generator=random, device=device)
    return labels, torch.rand(count, generator=random, device=device)


def normal(*shape: int, offset: int = 0) -> Tensor:
    """Return float32 values of a standard normal distribution."""
    return torch.randn(*shape, generator=generator(offset), device=settings.device())
