"""The losses on validation images (`TEST.EVAL_LOSS`), with nothing of the run changed by it."""

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.utils import comm
from torch import Tensor, nn

from ..data.loading.loss_loader import build_loss_loader
from ..modeling.normalizer import counted_alone
from ..progress import Progress
from .ending import ENDING

logger = logging.getLogger(__name__)

_SECONDS_WITHOUT_PROGRESS = 5
# Computes the losses of a batch by a model.
Losses = Callable[[nn.Module, list[dict[str, Any]]], dict[str, Tensor]]


class ValidationLosses:
    """Compute and log the losses on all of `DATASETS.TEST`, as the function of an evaluation hook.

    Args:
        cfg: the configuration, with the names of the model's classes.
        model: see `validation_losses`.
        losses: see `validation_losses`.

    Raises:
        ConfigError: see `build_loss_loader`.
    """

    def __init__(self, cfg: CfgNode, model: nn.Module, losses: Losses) -> None:
        self._loaders = {name: build_loss_loader(cfg, name) for name in cfg.DATASETS.TEST}
        self._model = model
        self._losses = losses

    def __call__(self) -> dict[str, dict[str, float]]:
        """Return the losses as "validation", or of several datasets as "<dataset>/validation".

        There are none in processes other than the main one, or if the run has been asked to end.
        """
        results: dict[str, dict[str, float]] = {}
        if ENDING.asked:
            return results
        with ENDING.at_once():
            for name, loader in self._loaders.items():
                losses = validation_losses(self._model, self._losses, loader)
                if losses:
                    prefix = f"{name}/" if len(self._loaders) > 1 else ""
                    results[f"{prefix}validation"] = losses
                    values = "  ".join(f"{loss}: {value:.4g}" for loss, value in losses.items())
                    logger.info(f"Losses on {name}: {values}")
        return results


@torch.no_grad()
def validation_losses(
    model: nn.Module, losses: Losses, batches: Iterable[list[dict[str, Any]]]
) -> dict[str, float]:
    """Return the mean losses of validation images, each batch with the weight of its images.

    The network is in evaluation mode: batch norms use their statistics, and nothing drops out. The
    model's modes, its buffers and all random streams are afterwards as before.

    Args:
        model: without a DDP wrapper.
        losses: computes the losses of a batch by a model.
        batches: those of this process, with ground truth; there may be none.

    Returns:
        The losses by name and their sum, `total_loss`, in the main process; empty in all others,
        and if there are no images.
    """
    sums: defaultdict[str, float] = defaultdict(float)
    count = 0
    with _gives_losses(model), _own_randomness(model), counted_alone():
        hidden = not comm.is_main_process()
        with_bar = Progress(
            batches,
            "validation losses",
            unit="batch",
            delay=_SECONDS_WITHOUT_PROGRESS,
            leave=False,
            disable=hidden,
        )
        for batch in with_bar:
            count += len(batch)
            for name, loss in losses(model, batch).items():
                sums[name] += float(loss) * len(batch)
    parts = comm.gather((dict(sums), count))
    images = sum(images for _, images in parts)
    if not images:
        return {}
    names = list(dict.fromkeys(name for part, _ in parts for name in part))
    means = {name: sum(part.get(name, 0.0) for part, _ in parts) / images for name in names}
    return {"total_loss": sum(means.values()), **means}


@contextmanager
def _gives_losses(model: nn.Module) -> Iterator[None]:
    """Let a model whose parts are in evaluation mode return losses, in the `with` block."""
    modes = {module: module.training for module in model.modules()}
    # Attributes, since a model's own `train` may do more.
    for module in modes:
        module.training = False
    # These two choose between losses and results: the model, and the head of detectron2's
    # SemanticSegmentor.
    head = getattr(model, "sem_seg_head", None)
    model.training = True
    if isinstance(head, nn.Module):
        head.training = True
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def _own_randomness(model: nn.Module) -> Iterator[None]:
    """Draw the same random numbers in every evaluation, in the `with` block."""
    devices = {p.device.index for p in model.parameters() if p.is_cuda}
    with torch.random.fork_rng(devices=[index for index in devices if index is not None]):
        torch.manual_seed(0)
        yield
