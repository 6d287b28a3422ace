"""Check the values of a configuration: each rule refuses a value and states what is allowed."""

from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode
from fvcore.common.registry import Registry

from ..errors import ConfigError
from ..registry import OWN_CODE

META_ARCH = "MODEL.META_ARCHITECTURE"


def get_key(cfg: CfgNode, key: str) -> Any:
    """Return the value of a dotted key."""
    for part in key.split("."):
        cfg = getattr(cfg, part)
    return cfg


def as_lists(value: Any) -> Any:
    """Return a value with lists for tuples at any depth: yaml does not tell them apart."""
    return [as_lists(part) for part in value] if isinstance(value, list | tuple) else value


def check_one_of(cfg: CfgNode, key: str, allowed: Sequence[Any]) -> None:
    """Refuse a value that is not among those allowed.

    Raises:
        ConfigError: names the key, its value, and what is allowed.
    """
    value = get_key(cfg, key)
    if value not in allowed:
        choices = ", ".join(repr(choice) for choice in allowed)
        raise ConfigError(f"{key} is {value!r}; allowed: {choices}.")


def check_registered(key: str, name: str, registry: Registry) -> None:
    """Refuse a name that nothing has registered with detectron2.

    Raises:
        ConfigError: names the key, its value, and what is allowed.
    """
    if name not in registry:
        known = ", ".join(repr(each) for each, _ in registry)
        raise ConfigError(
            f"{key} is {name!r}; allowed: {known}. What your own code registers is allowed after "
            f"its module is imported: name the module in the environment variable {OWN_CODE}."
        )


def check_channels(key: str, value: int, default: int, actual: int) -> None:
    """Refuse a channel count that the user set and that differs from the backbone's.

    Raises:
        ConfigError: `value` is neither the key's default nor the channel count of the features.
    """
    if value not in (default, actual):
        raise ConfigError(
            f"{key} is {value}, but the features have {actual} channels. "
            f"Set {key} {actual} (or remove it), or change MODEL.FPN.OUT_CHANNELS."
        )


def check_at_least(cfg: CfgNode, keys: Sequence[str], least: int = 1) -> None:
    """Refuse counts that are too small.

    Raises:
        ConfigError: names the key, its value, and the least.
    """
    for key in keys:
        value = get_key(cfg, key)
        if value < least:
            raise ConfigError(f"{key} is {value}; at least {least} is needed.")


def check_shares(cfg: CfgNode, keys: Sequence[str]) -> None:
    """Refuse values that are not probabilities or shares, such as percentages.

    Raises:
        ConfigError: names the key, its value, and what is allowed.
    """
    for key in keys:
        value = get_key(cfg, key)
        if not 0 <= value <= 1:
            raise ConfigError(f"{key} is {value}; a number from 0 to 1 is needed.")


def check_same_length(cfg: CfgNode, keys: Sequence[str]) -> None:
    """Refuse lists that need one entry per level but differ in length.

    Raises:
        ConfigError: names the keys and their lengths.
    """
    lengths = {key: len(get_key(cfg, key)) for key in keys}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{key} has {length}" for key, length in lengths.items())
        raise ConfigError(
            f"One entry per level is needed in each of these keys: {listed}. Give all of them the "
            "same number of entries."
        )
