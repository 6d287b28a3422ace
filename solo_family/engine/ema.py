"""Exponential moving average of the weights, evaluated and saved in addition to the raw weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from detectron2.engine import HookBase
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


class EMA(HookBase):
    """Update average <- decay x average + (1 - decay) x weights after every step.

    In step t the decay is (1 + t) / (10 + t), but at most the given value, so that the average
    quickly forgets the first weights. Floating-point buffers, such as batch-norm statistics, are
    averaged, too; other buffers are copied.

    It is a hook of detectron2's trainer, so its state is part of every checkpoint.

    Args:
        model: the trained model, without a DDP wrapper.
        decay: 0 to 1; 0.9998 is common.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._model = model
        self._decay = decay
        self._averaged = AveragedModel(model, multi_avg_fn=self._update, use_buffers=True)

    @property
    def average(self) -> dict[str, Tensor]:
        """The averaged weights, under the names of the model's state; they are not copies."""
        return self._averaged.module.state_dict()

    def before_train(self) -> None:
        """Copy the weights that training starts from, unless the state was resumed."""
        if not self._averaged.n_averaged:
            # The first update copies. It can't be made earlier, because pretrained weights are
            # loaded after `__init__`.
            self._averaged.update_parameters(self._model)

    def after_step(self) -> None:
        """Update the average."""
        self._averaged.update_parameters(self._model)

    @torch.no_grad()
    def _update(self, averages: Any, values: Any, _: Tensor | int) -> None:
        """Move averages, all of one dtype, towards the values, in place."""
        if not averages[0].is_floating_point():
            for average, value in zip(averages, values, strict=True):
                average.copy_(value)
            return
        # The copy before training counts as an update, so this is t, which is 1 in the first step.
        step = int(self._averaged.n_averaged)
        decay = min(self._decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(averages, values, 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Give the model the averaged weights in the `with` block."""
        raw = {name: value.clone() for name, value in self._model.state_dict().items()}
        try:
            self._model.load_state_dict(self.average)
            yield
        finally:
            self._model.load_state_dict(raw)

    def state_dict(self) -> dict[str, Any]:
        """Return the average and the number of updates, for a checkpoint."""
        return {"average": self.average, "updates": max(0, int(self._averaged.n_averaged) - 1)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the average and the number of updates from a checkpoint."""
        self._averaged.n_averaged.fill_(state_dict["updates"] + 1)
        average = self.average
        for name, value in state_dict["average"].items():
            average[name].copy_(value)
