"""One line of a recipe."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Choice:
    """A value of a config, and why it has it.

    Attributes:
        key: the dotted key.
        value: what yaml can write.
        reason: a phrase that follows the value as a comment; one line.
    """

    key: str
    value: Any
    reason: str


def value_of(key: str, choices: Iterable[Choice]) -> Any:
    """Return the value of a key that one of the lines is about."""
    return next(choice.value for choice in choices if choice.key == key)
