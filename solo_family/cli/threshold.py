"""The lowest score of what is shown and saved."""

import logging

from ..config.output import DEFAULT_CONFIDENCE

logger = logging.getLogger(__name__)


def lowest_score(given: float | None, own: float) -> float:
    """Return the confidence threshold to use, and say which if nobody has asked for it.

    Args:
        given: that of the flag; None if it was left out.
        own: that of the model: its report's, its config's, or 0.5.
    """
    if given is not None:
        return given
    if own != DEFAULT_CONFIDENCE:
        logger.info("what scores %.3g or more (docs/report.md)", own)
    return own
