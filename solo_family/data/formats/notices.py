"""Counts of the values that were converted to COCO's form, for one line of the log."""

from collections import Counter
from typing import Any

# A json object.
Item = dict[str, Any]


class Notices:
    """The conversions made while reading a file: how often each was made, and its first example."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._examples: dict[str, str] = {}

    def add(self, what: str, example: str = "") -> None:
        """Count a conversion.

        Args:
            what: describes the kind of value, for instance "'iscrowd'".
            example: "VALUE as CONVERTED"; the first one of a kind is kept.
        """
        self._counts[what] += 1
        self._examples.setdefault(what, example)

    def __bool__(self) -> bool:
        return bool(self._counts)

    def listed(self) -> list[str]:
        """Return a phrase for each kind of value: its count, its description and an example."""
        return [
            f"{count} x {what}" + (f" ({example})" if (example := self._examples[what]) else "")
            for what, count in self._counts.items()
        ]
