"""Compute the next items of an iteration in a thread, while the caller works on those before."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from .watchdog import TIMEOUT, Watchdog

T = TypeVar("T")
_END: Any = object()


def ahead(items: Iterable[T], count: int, what: str) -> Iterator[T]:
    """Yield items in their order, and compute up to `count` of them before they are asked for.

    An error of an item is raised in its place, and ends the iteration.

    Args:
        items: computed in one thread, one after another; with a `count` of 0 in the caller's.
        count: at least 0.
        what: computing an item, as the beginning of the error after `TIMEOUT` seconds.
    """
    iterator = iter(items)
    if not count:
        yield from iterator
        return
    with ThreadPoolExecutor(1, "ahead") as thread:
        coming: deque[Future[T]] = deque()
        try:
            while True:
                while len(coming) <= count:
                    coming.append(thread.submit(next, iterator, _END))
                with Watchdog(TIMEOUT, what):
                    item = coming.popleft().result()
                if item is _END:
                    return
                yield item
        finally:
            for future in coming:
                future.cancel()
