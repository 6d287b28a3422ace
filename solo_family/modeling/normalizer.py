"""Compute the number that losses are divided by, in one process or over all of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
import torch.distributed as dist
from detectron2.utils import comm
from torch import Tensor

# More than nothing while each process counts for itself.
_ALONE: list[bool] = []


@contextmanager
def counted_alone() -> Iterator[None]:
    """Divide by this process's counts in the `with` block, as processes with unequal work must."""
    _ALONE.append(True)
    try:
        yield
    finally:
        _ALONE.pop()


@torch.no_grad()
def normalizer(count: Tensor, *, globally: bool, offset: float = 0.0, least: float = 1.0) -> Tensor:
    """Return the number that a sum over `count` items is divided by.

    DDP averages gradients over processes. With `globally`, the counts of all processes are added
    and divided by the number of processes, so that the average of the processes' losses is the loss
    of their joint batch (MaskFormer, SparseInst); without it, every process divides by its own
    count (SOLO, as published).

    Args:
        count: scalar, the number of items of this process.
        globally: `SOLVER.NORMALIZE_LOSS_GLOBALLY`, or True.
        offset: added to the count of the batch.
        least: what stands for a smaller count, so that a sum of nothing is 0.

    Returns:
        float32 scalar on the device of `count`, at least `least`, or with `globally` at least that
        over the number of processes.
    """
    total = count.float()
    world_size = comm.get_world_size()
    if not globally or world_size == 1 or _ALONE:
        return (total + offset).clamp(min=least)
    total = total.clone()
    dist.all_reduce(total)
    return (total + offset).clamp(min=least) / world_size


@dataclass(frozen=True)
class LossCount:
    """What a loss is divided by, before any prediction: the items of this process that it sums.

    A batch that is computed in parts needs the counts of all its parts before the first
    (`SOLVER.ACCUMULATE`).

    Attributes:
        count: scalar, see `normalizer`, as all others.
        globally: whether the loss is divided by the counts of all processes.
        offset: added to the count.
        least: what stands for a smaller count.
    """

    count: Tensor
    globally: bool = False
    offset: float = 0.0
    least: float = 1.0

    def __add__(self, other: "LossCount") -> "LossCount":
        """Return the count of two parts of a batch together."""
        return replace(self, count=self.count + other.count)

    def divisor(self) -> Tensor:
        """Return the number that the loss is divided by; all processes have to ask for it."""
        return normalizer(self.count, globally=self.globally, offset=self.offset, least=self.least)
