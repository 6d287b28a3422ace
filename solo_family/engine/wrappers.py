"""What the trainer puts around a model, and looks for in a loader."""

import logging
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.utils import comm
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ..data.loading.sampler import GroupedSampler
from ..modeling.compiled import compile_network
from ..modeling.recomputed_blocks import checkpoint_activations

logger = logging.getLogger(__name__)


def resumable_sampler(loader: Any) -> GroupedSampler | None:
    """Return the sampler of a loader whose position a checkpoint can keep.

    A loader of other code has none: then a warning is logged, and None is returned.
    """
    sampler = getattr(loader, "batches", None)
    if isinstance(sampler, GroupedSampler):
        return sampler
    logger.warning(
        "The training loader is not this package's (%s): a resumed run starts its order of images "
        "from the beginning, and augmentations are not seeded.",
        type(loader).__name__,
    )
    return None


def adapt(model: Any, cfg: CfgNode) -> None:
    """Let a model train as `SOLVER` asks for: in less memory, compiled, in another order of memory.

    Raises:
        ConfigError: see `checkpoint_activations` and `compile_network`.
    """
    if cfg.SOLVER.ACTIVATION_CHECKPOINTING:
        # A compiler chooses itself what it computes again.
        checkpoint_activations(model, heads=not cfg.SOLVER.COMPILE)
    if cfg.SOLVER.COMPILE:
        compile_network(model)
    if cfg.SOLVER.CHANNELS_LAST:
        model.to(memory_format=torch.channels_last)


def distributed(model: nn.Module) -> nn.Module:
    """Wrap a model in DistributedDataParallel if there are several processes, on GPUs or CPUs."""
    if comm.get_world_size() == 1:
        return model
    device_ids = [comm.get_local_rank()] if next(model.parameters()).is_cuda else None
    return DistributedDataParallel(model, device_ids=device_ids, broadcast_buffers=False)
