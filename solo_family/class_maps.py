"""Leave out the scores of every class beside segments, where nobody reads them.

A panoptic model returns them as detectron2's do, K numbers for each pixel: of 133 classes and 800 x
1066 pixels they are 454 MB, and most of the time between the network and the results.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar

_UNREAD: ContextVar[bool] = ContextVar("class_maps_unread", default=False)


@contextmanager
def _set(unread: bool) -> Iterator[None]:
    token = _UNREAD.set(unread)
    try:
        yield
    finally:
        _UNREAD.reset(token)


def without_class_maps(unread: bool = True) -> AbstractContextManager[None]:
    """Let models that predict segments leave out `sem_seg` in the `with` block.

    Args:
        unread: whether nobody reads it; if not, nothing changes.
    """
    return _set(class_maps_unread() or unread)


def with_class_maps() -> AbstractContextManager[None]:
    """Let models make `sem_seg` in the `with` block, which reads it, even if nobody else does."""
    return _set(False)


def class_maps_unread() -> bool:
    """Return whether nobody reads the scores of every class of a model that predicts segments."""
    return _UNREAD.get()
