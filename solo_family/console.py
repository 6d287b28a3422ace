"""Standard output that never ends a program: if the reader is gone or a letter can't be encoded."""

import io
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast


class Console:
    """A text stream that drops text which can't be written.

    Printing must not end a run when `head` has read enough, a terminal is closed or a disk is full.
    Characters that the locale can't encode are written as escapes.

    Args:
        stream: `sys.stdout` or `sys.stderr`.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write text, or drop it if that fails."""
        try:
            self._stream.write(text)
            if "\n" in text:
                self._stream.flush()
        except (OSError, ValueError):  # ValueError: it is closed
            self._drop()
        return len(text)

    def flush(self) -> None:
        """Flush the stream, if possible."""
        try:
            self._stream.flush()
        except (OSError, ValueError):
            self._drop()

    def _drop(self) -> None:
        # Otherwise Python prints an error at exit, when it flushes the stream once more.
        with suppress(OSError, ValueError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._stream.fileno())
            os.close(null)


def outlive_readers() -> None:
    """Let this process continue when its output can't be written; see `Console`."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # the stream was closed before Python started
            stream = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
        if not isinstance(stream, Console):
            setattr(sys, name, cast(TextIO, Console(stream)))


@contextmanager
def logging_from(level: int, name: str | None = None) -> Iterator[None]:
    """Let a logger drop what is below a level, in the `with` block.

    Args:
        level: for instance `logging.WARNING`.
        name: of the logger; None for the root.
    """
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(before)
