"""Make the scores of every class beside segments when they are read, if they are read at all.

A panoptic model returns them as detectron2's do, K numbers for each pixel: of 133 classes and 800 x
1066 pixels they are 454 MB, and most of the time between the network and the results.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from enum import Enum, auto
from typing import Any


class Read(Enum):
    """When `sem_seg` is read."""

    NOW = auto()
    LATER = auto()
    NEVER = auto()


_READ: ContextVar[Read] = ContextVar("class_maps_read", default=Read.NOW)


@contextmanager
def _set(read: Read) -> Iterator[None]:
    token = _READ.set(read)
    try:
        yield
    finally:
        _READ.reset(token)


def without_class_maps(unread: bool = True) -> AbstractContextManager[None]:
    """Let models that predict segments leave out `sem_seg` in the `with` block.

    Args:
        unread: whether nobody reads it; if not, nothing changes.
    """
    return _set(Read.NEVER if unread else _READ.get())


def with_late_class_maps() -> AbstractContextManager[None]:
    """Let models that predict segments return in the `with` block what makes `sem_seg` when asked.

    It has a tensor's `to` and `argmax`; `made` returns the tensor. Where nobody reads it, nothing
    changes.
    """
    return _set(Read.NEVER if class_maps_read() is Read.NEVER else Read.LATER)


def made(scores: Any) -> Any:
    """Return `sem_seg` itself, or what a model has returned in `with_late_class_maps` made."""
    return scores.made() if hasattr(scores, "made") else scores


def with_class_maps() -> AbstractContextManager[None]:
    """Let models make `sem_seg` in the `with` block, which reads it, even if nobody else does."""
    return _set(Read.NOW)


def class_maps_read() -> Read:
    """Return when the scores of every class of a model that predicts segments are read."""
    return _READ.get()
