"""What is known of a source of checkpoints."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ..errors import DataError
from .rules import Rule

# Colours of ImageNet in the scale of 0 to 255, as torchvision has them.
IMAGENET_RGB: dict[str, Any] = {
    "INPUT.FORMAT": "RGB",
    "MODEL.PIXEL_MEAN": [123.675, 116.28, 103.53],
    "MODEL.PIXEL_STD": [58.395, 57.12, 57.375],
}


@dataclass(frozen=True)
class Source:
    """One code base's checkpoints.

    Attributes:
        name: for `--source`.
        title: for messages.
        recognised_by: patterns; each is found in the names of its weights.
        rules: from its names to ours.
        not_by: patterns of which not all are found, for a source that has another's names too.
        keys: what its weights imply beside what their shapes do, by config key.
        backbone_only: it has no head: what is written initialises a training.
        fresh: a pattern of weights of ours that a training starts without.
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
        """Whether these are names of its weights."""
        names = list(names)
        if self.not_by and _all_found(self.not_by, names):
            return False
        return _all_found(self.recognised_by, names)


def _all_found(patterns: Iterable[str], names: Iterable[str]) -> bool:
    return all(any(re.search(pattern, name) for name in names) for pattern in patterns)


def recognise(sources: Iterable[Source], names: Iterable[str]) -> Source | None:
    """Return the one source whose names these are, or None."""
    names = list(names)
    found = [source for source in sources if source.recognises(names)]
    return found[0] if len(found) == 1 else None


def choose(sources: dict[str, Source], names: Iterable[str], asked: str, path: Any) -> Source:
    """Return the source that was asked for, or else the one that the names are of.

    Raises:
        DataError: there is no such source, or the names are of none or of several.
    """
    if asked:
        if asked not in sources:
            raise DataError(f"--source {asked}: allowed are {', '.join(sources)}.")
        return sources[asked]
    source = recognise(sources.values(), names)
    if source is None:
        first = ", ".join(list(names)[:3])
        raise DataError(
            f"{path}: its weights ({first}, ...) are of no known source, or of several. If it is "
            f"of one of these, say so with --source: {', '.join(sources)}."
        )
    return source
