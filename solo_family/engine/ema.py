"""Exponential moving average of the weights, evaluated and saved beside the raw ones."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from detectron2.engine import HookBase
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


class EMA(HookBase):
    """After every step, average <- decay x average + (1 - decay) x weights.

    The decay grows as (1 + t) / (10 + t) towards its value, so that the average forgets the first
    weights quickly. Floating-point buffers, such as batch-norm statistics, are averaged too; others
    are copied.

    As a hook of detectron2's trainer its state is part of every checkpoint, and resumed.

    Args:
        model: the model that is trained, not wrapped.
        decay: at most 1; 0.9998 is common.
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
        if not self._averaged.n_averaged:
            # Its first update copies the weights: pretrained ones are loaded after this was made.
            self._averaged.update_parameters(self._model)

    def after_step(self) -> None:
        self._averaged.update_parameters(self._model)

    @torch.no_grad()
    def _update(self, averages: Any, values: Any, _: Tensor | int) -> None:
        """Moves averages of one dtype towards the values, in place."""
        if not averages[0].is_floating_point():
            for average, value in zip(averages, values, strict=True):
                average.copy_(value)
            return
        # The weights before training are counted as one, so that this is t: 1 after the first step.
        step = int(self._averaged.n_averaged)
        decay = min(self._decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(averages, values, 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within it, the model has the averaged weights."""
        raw = {name: value.clone() for name, value in self._model.state_dict().items()}
        try:
            self._model.load_state_dict(self.average)
            yield
        finally:
            self._model.load_state_dict(raw)

    def state_dict(self) -> dict[str, Any]:
        return {"average": self.average, "updates": max(0, int(self._averaged.n_averaged) - 1)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._averaged.n_averaged.fill_(state_dict["updates"] + 1)
        average = self.average
        for name, value in state_dict["average"].items():
            average[name].copy_(value)
