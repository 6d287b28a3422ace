"""What the trainer puts around a model, and looks for in a loader."""

import logging
from typing import Any

from detectron2.config import CfgNode
from detectron2.utils import comm
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ..data.loading.sampler import GroupedSampler
from ..errors import ConfigError
from ..evaluation.build import predicted_tasks
from ..evaluation.semantic_tta import SemanticWithTTA

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


def augmented(cfg: CfgNode, model: nn.Module) -> nn.Module:
    """Wrap a model in test-time augmentation (`TEST.AUG`).

    Raises:
        ConfigError: the model has other tasks than semantic segmentation.
    """
    if predicted_tasks(cfg) != ["semantic"]:
        raise ConfigError(
            "TEST.AUG.ENABLED is True, but test-time augmentation supports semantic segmentation "
            f"only; the model predicts {', '.join(predicted_tasks(cfg))}. Set TEST.AUG.ENABLED "
            "False, or let the model predict semantic segmentation only."
        )
    return SemanticWithTTA.from_config(cfg, model)


def distributed(model: nn.Module) -> nn.Module:
    """Wrap a model in DistributedDataParallel if there are several processes, on GPUs or CPUs."""
    if comm.get_world_size() == 1:
        return model
    device_ids = [comm.get_local_rank()] if next(model.parameters()).is_cuda else None
    return DistributedDataParallel(model, device_ids=device_ids, broadcast_buffers=False)
