"""The lines that the page shows."""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...predictor.predictions import Predictions
from .rows import Row

logger = logging.getLogger(__name__)

# What Python writes of an open file, in Pillow's messages.
_PYTHONS = re.compile(r" <_io\.\w+ name=.*>")


@dataclass(frozen=True)
class Choice:
    """What of the predictions is shown.

    Attributes:
        threshold: the lowest score.
        labels: the classes; empty for all.
    """

    threshold: float = 0.5
    labels: tuple[int, ...] = ()


def unexpected(error: Exception) -> str:
    """Return a line about an error that nobody has foreseen, and log all of it."""
    logger.error("unexpected error", exc_info=error)
    return f"unexpected error ({type(error).__name__}); the terminal shows more."


def with_own_name(line: str, file: Path) -> str:
    """Return a message with the name that a file has on the user's machine."""
    return _PYTHONS.sub("", line.replace(str(file), file.name))


def found_text(
    predictions: Predictions, rows: Sequence[Row], choice: Choice, every: Predictions
) -> str:
    """Return how much is shown, in words.

    Args:
        predictions: what is shown.
        rows: of the predictions.
        choice: what was asked for.
        every: what the model predicted.
    """
    if "panoptic_seg" in predictions:
        return "1 segment" if len(rows) == 1 else f"{len(rows)} segments"
    if "sem_seg" in predictions:
        return "1 class" if len(rows) == 1 else f"{len(rows)} classes"
    if rows:
        return "1 object" if len(rows) == 1 else f"{len(rows)} objects"
    scores = every["instances"].scores
    if not len(scores):
        return "no object found"
    chosen = " of the chosen classes" if choice.labels else ""
    return (
        f"no object{chosen} with a score of {choice.threshold:.2f} or more; the best of all has "
        f"{float(scores.max()):.2f}"
    )
