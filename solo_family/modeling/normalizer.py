"""Compute the number that losses are divided by, in one process or over all of them."""

import torch
import torch.distributed as dist
from detectron2.utils import comm
from torch import Tensor


@torch.no_grad()
def normalizer(count: Tensor, *, globally: bool, offset: float = 0.0) -> Tensor:
    """Return the number that a sum over `count` items is divided by.

    DDP averages gradients over processes. With `globally`, the counts of all processes are added
    and divided by the number of processes, so that the average of the processes' losses is the loss
    of their joint batch (MaskFormer, SparseInst); without it, every process divides by its own
    count (SOLO, as published).

    Args:
        count: scalar, the number of items of this process.
        globally: `SOLVER.NORMALIZE_LOSS_GLOBALLY`, or True.
        offset: added to the count of the batch.

    Returns:
        float32 scalar on the device of `count`, at least one over the number of processes (without
        `globally`, at least 1), so that a sum of nothing is 0.
    """
    total = count.float()
    world_size = comm.get_world_size()
    if not globally or world_size == 1:
        return (total + offset).clamp(min=1)
    total = total.clone()
    dist.all_reduce(total)
    return (total + offset).clamp(min=1) / world_size
