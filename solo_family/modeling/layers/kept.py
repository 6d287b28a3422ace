"""What follows from tensors that seldom change is computed again when they did."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

_T = TypeVar("_T")


class Kept:
    """The latest result of some functions, without gradient; each by the tensors it was given.

    A change in place is seen by the tensor's version, and another tensor by where it lies. What is
    written through `tensor.data` moves no version: such a change is not seen.
    """

    def __init__(self) -> None:
        # The tensors stay alive along with their result, so that no other comes to lie there.
        self._results: dict[Callable[..., Any], tuple[list[Any], list[Any], Any]] = {}

    def get(self, make: Callable[..., _T], *inputs: Any) -> _T:
        """Returns `make(*inputs)`; must not be written to.

        Args:
            make: a function of tensors and of what can be compared.
            inputs: its arguments.
        """
        if torch.compiler.is_compiling():
            return make(*inputs)
        state = [_state(value) for value in inputs]
        known = self._results.get(make)
        if known is None or known[0] != state:
            with torch.inference_mode(False), torch.no_grad():
                made = make(*inputs)
            alive = [value.detach() for value in inputs if isinstance(value, Tensor)]
            known = self._results[make] = (state, alive, made)
        return known[2]


def _state(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.data_ptr(), value._version
    return value
