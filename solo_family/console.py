"""Standard output that a program outlives: its reader may go, and its encoding may know less."""

import io
import os
import sys
from contextlib import suppress
from typing import Any, TextIO, cast


class Console:
    """A text stream that drops what can't be written.

    When `head` has read enough, a terminal is closed or a disk is full, printing must not end a
    run; and a name that the locale has no letters for is written in escapes.

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
        """Write text, or drops it."""
        try:
            self._stream.write(text)
            if "\n" in text:
                self._stream.flush()
        except (OSError, ValueError):  # ValueError: it is closed
            self._drop()
        return len(text)

    def flush(self) -> None:
        """Flushes the stream, if it can be."""
        try:
            self._stream.flush()
        except (OSError, ValueError):
            self._drop()

    def _drop(self) -> None:
        # Else Python tells at its end of what it could not write then.
        with suppress(OSError, ValueError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._stream.fileno())
            os.close(null)


def outlive_readers() -> None:
    """Have this process go on when nobody reads what it prints."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # it was closed before the start
            stream = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
        if not isinstance(stream, Console):
            setattr(sys, name, cast(TextIO, Console(stream)))
