"""Counts where the host waits for a GPU: on one as it happens, on a CPU by what would do it."""

import os
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any
from unittest import mock

import torch
import torchvision  # noqa: F401 for its operators
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from solo_family.ops.resize import ResizedMasks

PACKAGE = str(Path(__file__).resolve().parents[1] / "solo_family") + os.sep
LIBRARIES = {"torch", "torchvision"}
# Operators whose output's size, or whose value on the host, depends on values on the device.
WAITING = {
    *("_local_scalar_dense", "is_nonzero", "equal", "nonzero", "nonzero_numpy", "masked_select"),
    *("_unique", "_unique2", "unique_dim", "unique_consecutive", "bincount", "one_hot"),
    "nms",
}
INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"}


class Waits:
    """What was counted.

    Attributes:
        where: how many at which line of the package, "modeling/x.py:12"; at a line of the caller
            where none of the package is on the stack.
    """

    def __init__(self) -> None:
        self.where: Counter[str] = Counter()
        # Within an operator of ours, which on a GPU takes another path than here.
        self.hidden = 0

    @property
    def total(self) -> int:
        return self.where.total()

    def count(self) -> None:
        if not self.hidden:
            self.where[_line()] += 1


@contextmanager
def count_waits(device: str | torch.device = "cpu") -> Iterator[Waits]:
    """Counts the waits of what runs inside.

    On a CPU what would make the host wait on a GPU: reading values (`item`, `tolist`, `cpu`,
    `numpy`), sizes that depend on them (`nonzero`, `unique`, boolean indices), and copies of
    Python's lists to the device (`torch.tensor` with a device, `new_tensor`, indexing by a list).
    It can't see `tensor.to(device)`, and doesn't look into the operators `solo_family::`.

    Args:
        device: where the tensors are. On a GPU all that torch reports is counted, and explicit
            `synchronize`, and torchvision's NMS.
    """
    waits = Waits()
    if torch.device(device).type == "cuda":
        with _reported_by_torch(waits), _explicit(waits):
            yield waits
        return
    with ExitStack() as stack:
        stack.enter_context(_Calls(waits))
        stack.enter_context(_Operators(waits))
        # Only on a CPU are masks resized by rows.
        stack.enter_context(mock.patch.object(ResizedMasks, "by_rows", False))
        yield waits


class _Calls(TorchFunctionMode):
    """Counts the functions and methods that would wait, whatever operators they come to.

    Methods of `Tensor` are not replaced: Python would take tensors for sequences ever after.
    """

    def __init__(self, waits: Waits) -> None:
        super().__init__()
        self.waits = waits

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        waiting = CALLS.get(getattr(func, "__name__", ""))
        if waiting is None or not waiting(*args, **kwargs):
            return func(*args, **kwargs)
        self.waits.count()
        self.waits.hidden += 1
        try:
            return func(*args, **kwargs)
        finally:
            self.waits.hidden -= 1


class _Operators(TorchDispatchMode):
    """Counts the operators that would wait."""

    def __init__(self, waits: Waits) -> None:
        super().__init__()
        self.waits = waits

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func.namespace == "solo_family":
            self.waits.hidden += 1
            try:
                return func(*args, **kwargs)
            finally:
                self.waits.hidden -= 1
        if _would_wait(func._schema.name.split("::")[1], args, kwargs):
            self.waits.count()
        return func(*args, **kwargs)


def _would_wait(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    if name in INDEXING:
        indices = [index for index in args[1] if index is not None]
        return any(index.dtype in (torch.bool, torch.uint8) for index in indices)
    if name == "repeat_interleave":
        by_tensor = any(isinstance(repeats, Tensor) for repeats in args[1:2] or args)
        return by_tensor and kwargs.get("output_size") is None
    return name in WAITING


def _goes_to_the_cpu(_: Tensor, *args: Any, **kwargs: Any) -> bool:
    return "cpu" in (*args[:1], kwargs.get("device"))


def _makes_on_a_device(data: Any, *_: Any, **kwargs: Any) -> bool:
    return kwargs.get("device") is not None and not isinstance(data, Tensor)


def _has_list(_: Tensor, index: Any, *__: Any) -> bool:
    parts = index if isinstance(index, tuple) else (index,)
    return any(isinstance(part, list) for part in parts)


CALLS: dict[str, Callable[..., bool]] = {
    **dict.fromkeys(("tolist", "cpu", "numpy", "__array__", "new_tensor"), lambda *_, **__: True),
    **dict.fromkeys(("__getitem__", "__setitem__"), _has_list),
    **dict.fromkeys(("tensor", "as_tensor"), _makes_on_a_device),
    "to": _goes_to_the_cpu,
}


def _counted(
    waits: Waits, owner: Any, name: str, waiting: Callable[..., bool]
) -> "mock._patch[Any]":
    original = getattr(owner, name)

    def call(*args: Any, **kwargs: Any) -> Any:
        if not waiting(*args, **kwargs):
            return original(*args, **kwargs)
        waits.count()
        waits.hidden += 1
        try:
            return original(*args, **kwargs)
        finally:
            waits.hidden -= 1

    return mock.patch.object(owner, name, call)


@contextmanager
def _explicit(waits: Waits) -> Iterator[None]:
    """Counts what torch reports to nobody, or on standard error, where Python does not see it."""
    calls = [(owner, "synchronize") for owner in (torch.cuda, torch.cuda.Event, torch.cuda.Stream)]
    with ExitStack() as stack:
        for owner, name in [*calls, (torch.ops.torchvision, "nms")]:
            stack.enter_context(_counted(waits, owner, name, lambda *_, **__: True))
        yield


@contextmanager
def _reported_by_torch(waits: Waits) -> Iterator[None]:
    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        if "synchronizing CUDA operation" in str(message):
            waits.count()

    torch.cuda.synchronize()
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = show
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode(before)


def _line() -> str:
    """The innermost line of the package on the stack, or else of what called."""
    frame: FrameType | None = sys._getframe(2)
    first = None
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(PACKAGE):
            return f"{file.removeprefix(PACKAGE)}:{frame.f_lineno}"
        if first is None and file != __file__ and not LIBRARIES.intersection(Path(file).parts):
            first = f"{Path(file).name}:{frame.f_lineno}"
        frame = frame.f_back
    return first or "?"
