"""Read what differs by intention between the official configs and ours, and what has no config."""

import csv
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

TABLE = Path(__file__).with_name("differences.csv")
MISSING = Path(__file__).with_name("missing.csv")


@dataclass(frozen=True)
class Difference:
    """One key of which a config of ours has another value than the official one.

    Attributes:
        configs: patterns of our configs' names, separated by spaces.
        key: of the configuration.
        official, ours: the values, as Python prints them; "*" for any.
        reason: why.
    """

    configs: str
    key: str
    official: str
    ours: str
    reason: str

    def is_of(self, config: str) -> bool:
        """Return whether the patterns match a config's name."""
        return any(fnmatch(config, pattern) for pattern in self.configs.split())


@dataclass(frozen=True)
class Missing:
    """A published number for which there is no config.

    Attributes:
        source: the paper or the repository.
        row: which of its numbers, in its own words.
        value: the number; "" where we don't know it for certain.
        reason: what is missing.
    """

    source: str
    row: str
    value: str
    reason: str


def read_differences() -> list[Difference]:
    """Return all differences, in the order of the file."""
    with open(TABLE, newline="", encoding="utf-8") as file:
        return [Difference(**row) for row in csv.DictReader(file)]


def read_missing() -> list[Missing]:
    """Return the published numbers without a config, in the order of the file."""
    with open(MISSING, newline="", encoding="utf-8") as file:
        return [Missing(**row) for row in csv.DictReader(file)]
