"""Finish in a thread what the main one has predicted, in order and in bounded memory."""

import sys
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

# Pixels of pictures whose predictions wait, or are being drawn, or are predicted: a hundred masks
# of so many take 800 MB.
MOST_PIXELS = 2**23
# How many wait at most, so that what was predicted is soon finished after Ctrl-C.
_MOST = 8
# Seconds. A thread that draws keeps the interpreter for so long when the model's thread asks for
# it, which it does at each of its many operations. Python's own 5 ms would slow them down.
_SWITCH = 0.0002


class Finishing:
    """Call functions one after another in a thread; use it as a context manager.

    Args:
        is_threaded: False calls them at once, in the caller's thread.
    """

    def __init__(self, *, is_threaded: bool) -> None:
        self._thread = ThreadPoolExecutor(1, "finishing") if is_threaded else None
        self._waiting: deque[tuple[Future[None], int]] = deque()

    def __enter__(self) -> Self:
        self._before = sys.getswitchinterval()
        if self._thread is not None:
            sys.setswitchinterval(_SWITCH)
        return self

    def make_room(self, pixels: int) -> None:
        """Wait until pictures of so many pixels have room beside those that wait.

        Raises:
            Exception: what a function has raised.
        """
        while len(self._waiting) > _MOST or (
            self._waiting and sum(size for _, size in self._waiting) + pixels > MOST_PIXELS
        ):
            self._waiting.popleft()[0].result()

    def __call__(self, pixels: int, function: Callable[..., None], *arguments: Any) -> None:
        """Call a function when those before have ended.

        Raises:
            Exception: what one of them has raised.
        """
        if self._thread is None:
            function(*arguments)
            return
        while self._waiting and self._waiting[0][0].done():
            self._waiting.popleft()[0].result()
        self._waiting.append((self._thread.submit(function, *arguments), pixels))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Wait for all functions; after an error other than Ctrl-C, only for the one that runs.

        Raises:
            Exception: what one of them has raised.
        """
        try:
            is_ended = kind is None or issubclass(kind, KeyboardInterrupt)
            while is_ended and self._waiting:
                self._waiting.popleft()[0].result()
        finally:
            sys.setswitchinterval(self._before)
            if self._thread is not None:
                self._thread.shutdown(cancel_futures=True)
