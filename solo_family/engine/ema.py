"""Exponential moving average of the weights, evaluated and saved beside the raw ones."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from detectron2.engine import HookBase
from torch import Tensor, nn


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
        self._updates = 0
        self.average: dict[str, Tensor] = copy.deepcopy(model.state_dict())

    def before_train(self) -> None:
        if not self._updates:
            # Pretrained weights are loaded after this hook is made.
            self.average = copy.deepcopy(self._model.state_dict())

    @torch.no_grad()
    def after_step(self) -> None:
        self._updates += 1
        decay = min(self._decay, (1 + self._updates) / (10 + self._updates))
        averages, values = [], []
        for name, value in self._model.state_dict().items():
            if value.is_floating_point():
                averages.append(self.average[name])
                values.append(value)
            else:
                self.average[name].copy_(value)
        torch._foreach_lerp_(averages, values, 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within it, the model has the averaged weights."""
        raw = {name: value.clone() for name, value in self._model.state_dict().items()}
        self._model.load_state_dict(self.average)
        try:
            yield
        finally:
            self._model.load_state_dict(raw)

    def state_dict(self) -> dict[str, Any]:
        return {"average": self.average, "updates": self._updates}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._updates = state_dict["updates"]
        for name, value in state_dict["average"].items():
            self.average[name].copy_(value)
