"""What was read in another form than it has, counted for one line of the log."""

from collections import Counter
from typing import Any

# An object of a json.
Item = dict[str, Any]


class Notices:
    """What was read in another form than it has: how often, and the first example."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._examples: dict[str, str] = {}

    def add(self, what: str, example: str = "") -> None:
        """Count one of a kind."""
        self._counts[what] += 1
        self._examples.setdefault(what, example)

    def __bool__(self) -> bool:
        return bool(self._counts)

    def listed(self) -> list[str]:
        """Return a phrase for each kind."""
        return [
            f"{count} x {what}" + (f" ({example})" if (example := self._examples[what]) else "")
            for what, count in self._counts.items()
        ]
