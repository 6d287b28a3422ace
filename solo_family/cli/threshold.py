"""The lowest score of what is shown and saved."""

import logging

from ..config.output import DEFAULT_CONFIDENCE
from ..errors import ConfigError

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
        logger.info("The lowest score is %.3g, the model's own (docs/report.md).", own)
    return own


def check_score(given: float | None) -> None:
    """Check the value of `--confidence-threshold`, where it must be a score.

    Raises:
        ConfigError: it is none from 0 to 1; names it.
    """
    if given is not None and not 0 <= given <= 1:
        raise ConfigError(f"--confidence-threshold is {given:g}; it must be from 0 to 1.")
