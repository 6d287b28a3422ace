"""What a function asks of the device: on a GPU each is a launch."""

from collections.abc import Callable
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode


class _Names(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # Views move nothing, and so do those that only make room.
        name = func.overloadpacket.__name__
        if not func.is_view and name not in _FREE:
            self.names.append(name)
        return func(*args, **(kwargs or {}))


_FREE = {"empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided", "_unsafe_view"}


def launches(run: Callable[[], Any]) -> list[str]:
    """Returns the names of ATen's operators that `run` calls, its backward pass included."""
    with _Names() as mode:
        run()
    return mode.names
