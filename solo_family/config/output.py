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
# Keys of TEST; the first that is not None counts.
_THRESHOLDS = ("CONFIDENCE_THRESHOLD", "BEST_CONFIDENCE")


def check_output(cfg: CfgNode) -> None:
    """Check `OUTPUT.LOGGERS`, `TEST.CONFIDENCE_THRESHOLD` and `TEST.BEST_CONFIDENCE`.

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
    for key in _THRESHOLDS:
        threshold = cfg.TEST[key]
        is_number = isinstance(threshold, int | float) and not isinstance(threshold, bool)
        if threshold is not None and not (is_number and 0 <= threshold <= 1):
            raise ConfigError(
                f"TEST.{key} is {threshold!r}; it must be a score from 0 to 1, or None."
            )


def confidence_threshold(cfg: CfgNode) -> float:
    """Return the lowest score of what is shown, if nothing else is asked for."""
    values = (cfg.TEST[key] for key in _THRESHOLDS)
    return next((float(value) for value in values if value is not None), DEFAULT_CONFIDENCE)


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
