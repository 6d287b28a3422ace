"""Describe a source of checkpoints, and recognise a checkpoint's source."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ..errors import DataError
from .rules import Rule

# ImageNet's mean and standard deviation of colours in the scale of 0 to 255, from torchvision's.
IMAGENET_RGB: dict[str, Any] = {
    "INPUT.FORMAT": "RGB",
    "MODEL.PIXEL_MEAN": [123.675, 116.28, 103.53],
    "MODEL.PIXEL_STD": [58.395, 57.12, 57.375],
}


@dataclass(frozen=True)
class Source:
    """One code base that checkpoints come from.

    Attributes:
        name: the value of `--source`.
        title: its name in messages.
        recognised_by: patterns, each of which must match the name of some weight.
        rules: renaming rules from its names to ours.
        not_by: patterns of which at least one must match nothing, for a source whose names another
            source has as well.
        keys: config keys and values that follow from the source, beside those that the shapes
            imply.
        backbone_only: it has no head: the converted file initialises a training run.
        fresh: a pattern of our weights that may be missing, because training starts without them.
    """

    name: str
    title: str
    recognised_by: tuple[str, ...]
    rules: tuple[Rule, ...]
    not_by: tuple[str, ...] = ()
    keys: dict[str, Any] = field(default_factory=lambda: dict(IMAGENET_RGB))
    backbone_only: bool = False
    fresh: str = ""

    def recognises(self, names: Iterable[str]) -> bool:
        """Return whether these are names of this source's weights."""
        names = list(names)
        if self.not_by and _all_found(self.not_by, names):
            return False
        return _all_found(self.recognised_by, names)


def _all_found(patterns: Iterable[str], names: Iterable[str]) -> bool:
    return all(any(re.search(pattern, name) for name in names) for pattern in patterns)


def recognise(sources: Iterable[Source], names: Iterable[str]) -> Source | None:
    """Return the only source that has these names, or None if there is none or more than one."""
    names = list(names)
    found = [source for source in sources if source.recognises(names)]
    return found[0] if len(found) == 1 else None


def choose(sources: dict[str, Source], names: Iterable[str], asked: str, path: Any) -> Source:
    """Return the source that was asked for, or else the one that the names belong to.

    Raises:
        DataError: there is no such source, or the names belong to none or to several.
    """
    if asked:
        if asked not in sources:
            raise DataError(f"--source is {asked}; allowed: {', '.join(sources)}.")
        return sources[asked]
    source = recognise(sources.values(), names)
    if source is None:
        first = ", ".join(list(names)[:3])
        raise DataError(
            f"{path}: its weights ({first}, ...) belong to no known source, or to several. If it "
            f"comes from one of these, name it with --source: {', '.join(sources)}."
        )
    return source
