"""Errors that a user can cause and fix; each message names the key or file, and what to do."""

from collections.abc import Sequence


class SoloFamilyError(Exception):
    """An error in the user's input; its message is complete, and is shown without a traceback."""


class ConfigError(SoloFamilyError):
    """A configuration key has a value that can't work."""


class DataError(SoloFamilyError):
    """A file that the user named is missing, unreadable, or has wrong content."""


class TrainingError(SoloFamilyError):
    """A training run can't continue."""


class OutOfMemoryError(SoloFamilyError):
    """The machine has too little memory for the task."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its type if the message is empty."""
    return (str(error) or type(error).__name__).splitlines()[0]


def first_of(names: Sequence[str], most: int, separator: str = ", ") -> str:
    """Return names as text for a message, of which only the first `most` are named."""
    rest = len(names) - most
    end = f"{separator.rstrip(', ')} and {rest} more" if rest > 0 else ""
    return separator.join(names[:most]) + end
