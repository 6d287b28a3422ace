"""Which optimizer a configuration names, and keys that it would not read."""

from detectron2.config import CfgNode, get_cfg

from ..errors import ConfigError
from ..registry import METHODS
from .rules import get_key

# The optimizer that reads each of these.
_READERS = {"SOLVER.AMSGRAD": "AdamW", "SOLVER.NESTEROV": "SGD", "SOLVER.MOMENTUM": "SGD"}
_NEUTRAL = {"SOLVER.AMSGRAD": False}


def optimizer_name(cfg: CfgNode) -> str:
    """Return the optimizer's name: `SOLVER.OPTIMIZER`, or where that is '' the method's own."""
    method = METHODS.get(cfg.MODEL.META_ARCHITECTURE)
    name = cfg.SOLVER.OPTIMIZER or (method.optimizer if method else "SGD")
    return "AdamW" if name == "ADAMW" else name


def check_solver(cfg: CfgNode) -> None:
    """Refuse what the optimizer would not read, or can't work with.

    Raises:
        ConfigError: names the key, its value, the optimizer that reads it, and the value to leave.
    """
    _check_accumulate(cfg)
    name = optimizer_name(cfg)
    defaults = get_cfg()
    for key, reader in _READERS.items():
        value = get_key(cfg, key)
        neutral = _NEUTRAL[key] if key in _NEUTRAL else get_key(defaults, key)
        if name != reader and value != neutral:
            raise ConfigError(
                f"{key} is {value!r}, but {name} does not read it. Set SOLVER.OPTIMIZER {reader}, "
                f"or leave {key} at {neutral!r}."
            )
    if name == "SGD" and cfg.SOLVER.NESTEROV and cfg.SOLVER.MOMENTUM <= 0:
        raise ConfigError(
            f"SOLVER.NESTEROV is True with SOLVER.MOMENTUM {cfg.SOLVER.MOMENTUM}, which leaves "
            "nothing of it. Set SOLVER.MOMENTUM 0.9, or SOLVER.NESTEROV False."
        )


def _check_accumulate(cfg: CfgNode) -> None:
    parts, batch = cfg.SOLVER.ACCUMULATE, cfg.SOLVER.IMS_PER_BATCH
    if parts < 1 or batch % parts:
        raise ConfigError(
            f"SOLVER.ACCUMULATE is {parts}; it must be 1 or another divisor of "
            f"SOLVER.IMS_PER_BATCH, {batch}, which it divides into parts."
        )
    if parts > 1 and cfg.TEST.PRECISE_BN.ENABLED:
        raise ConfigError(
            f"TEST.PRECISE_BN.ENABLED is True with SOLVER.ACCUMULATE {parts}, but it passes whole "
            "batches through the model, for which there is no memory where batches are divided. "
            "Set TEST.PRECISE_BN.ENABLED False, or SOLVER.ACCUMULATE 1."
        )
