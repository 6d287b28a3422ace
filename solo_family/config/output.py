"""Check the keys of what a run writes and shows of itself."""

import importlib.util
from collections.abc import Iterable

from detectron2.config import CfgNode

from ..errors import ConfigError

# The package that each logger needs, and the extra that installs it; None for no package.
LOGGERS: dict[str, tuple[str, str] | None] = {
    "tensorboard": ("tensorboard", "tensorboard"),
    "wandb": ("wandb", "solo-family[wandb]"),
    "mlflow": ("mlflow", "solo-family[mlflow]"),
    "csv": None,
}
DEFAULT_CONFIDENCE = 0.5


def check_output(cfg: CfgNode) -> None:
    """Check `OUTPUT.LOGGERS` and `TEST.CONFIDENCE_THRESHOLD`.

    Raises:
        ConfigError: names the key, its value, and what is allowed.
    """
    given = cfg.OUTPUT.LOGGERS
    names = (given,) if isinstance(given, str) else tuple(given)
    unknown = [str(name) for name in names if name not in LOGGERS]
    if unknown or isinstance(given, str) or len(set(names)) < len(names):
        raise ConfigError(
            f"OUTPUT.LOGGERS is {given!r}; it must be a list of some of {', '.join(LOGGERS)}, each "
            'once, for instance ("tensorboard", "csv"), or () for none.'
        )
    threshold = cfg.TEST.CONFIDENCE_THRESHOLD
    is_number = isinstance(threshold, int | float) and not isinstance(threshold, bool)
    if threshold is not None and not (is_number and 0 <= threshold <= 1):
        raise ConfigError(
            f"TEST.CONFIDENCE_THRESHOLD is {threshold!r}; it must be a score from 0 to 1, or None "
            f"for {DEFAULT_CONFIDENCE}."
        )


def confidence_threshold(cfg: CfgNode) -> float:
    """Return the lowest score of what is shown, if nothing else is asked for."""
    threshold = cfg.TEST.CONFIDENCE_THRESHOLD
    return DEFAULT_CONFIDENCE if threshold is None else float(threshold)


def check_installed(names: Iterable[str]) -> None:
    """Check that the packages of loggers are installed.

    Raises:
        ConfigError: one is missing; the message says how to install it.
    """
    for name in names:
        needed = LOGGERS[name]
        if needed is not None and importlib.util.find_spec(needed[0]) is None:
            raise ConfigError(
                f'OUTPUT.LOGGERS has "{name}", but the package {needed[0]} is not installed: '
                f"pip install '{needed[1]}', or leave it out."
            )
