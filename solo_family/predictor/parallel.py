"""Predict several pictures at the same time on a CPU, each on one core.

A core that has a picture to itself waits for no other one. Operators that share a picture between
cores leave them idle at its many small steps.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import Context, copy_context
from threading import Lock
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")


def on_one_core_each(function: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """Return what a function returns for each item, computed by as many threads as torch has.

    Items that are too few for all threads are computed one by one, each on all cores.

    Args:
        function: may be called by several threads at once, without gradients.
        items: in the order of the results.

    Raises:
        Exception: the first that the function has raised, when all threads have ended.
    """
    threads = _outside.threads()
    together = len(items) - len(items) % threads if threads > 1 else 0
    if not together:
        if torch.get_num_threads() != threads:  # this thread began while another one was here
            torch.set_num_threads(threads)
        return [function(item) for item in items]

    @torch.no_grad()
    def without_gradients(item: T) -> R:
        return function(item)

    def within(context: Context, item: T) -> R:
        return context.run(without_gradients, item)

    contexts = [copy_context() for _ in items[:together]]
    with _outside.one_thread_each(), ThreadPoolExecutor(threads, "core") as cores:
        results = list(cores.map(within, contexts, items[:together]))
    return results + [function(item) for item in items[together:]]


def one_thread_in_a_fork() -> None:
    """Let torch compute with one thread in a process that was forked after a model was used.

    Torch's threads don't survive a fork, and the new process would wait for them without end. That
    is what the processes of `multiprocessing.Pool` would do, which are forks on Linux.
    """
    global _outside, _user
    process = os.getpid()
    if _user not in (None, process):
        torch.set_num_threads(1)
        _outside = _Outside()  # another thread may have had its lock
    _user = process


class _Outside:
    """The number of torch's threads while nobody computes on one core each.

    It belongs to the whole program, so of several threads that come here at once only the first
    finds it.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._here = 0
        self._threads = 0

    def threads(self) -> int:
        """Return the number."""
        with self._lock:
            return self._threads if self._here else torch.get_num_threads()

    @contextmanager
    def one_thread_each(self) -> Iterator[None]:
        """Let operators take one thread, of threads that start in the `with` block too."""
        with self._lock:
            if not self._here:
                self._threads = torch.get_num_threads()
            self._here += 1
            torch.set_num_threads(1)
        try:
            yield
        finally:
            with self._lock:
                self._here -= 1
                torch.set_num_threads(self._threads)


_outside = _Outside()
# The process that has used a model; a fork has that of the process before it.
_user: int | None = None
