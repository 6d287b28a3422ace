"""Predict several pictures at the same time on a CPU, each on one core.

A core that has a picture to itself waits for no other one. Operators that share a picture between
cores leave them idle at its many small steps.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import Context, copy_context
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
    threads = torch.get_num_threads()
    together = len(items) - len(items) % threads if threads > 1 else 0
    if not together:
        return [function(item) for item in items]

    @torch.no_grad()
    def without_gradients(item: T) -> R:
        return function(item)

    def within(context: Context, item: T) -> R:
        return context.run(without_gradients, item)

    contexts = [copy_context() for _ in items[:together]]
    with _threads_of_torch(1), ThreadPoolExecutor(threads, "core") as cores:
        results = list(cores.map(within, contexts, items[:together]))
    return results + [function(item) for item in items[together:]]


@contextmanager
def _threads_of_torch(count: int) -> Iterator[None]:
    """Let torch's operators take so many threads, of threads that start in the `with` block too."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
