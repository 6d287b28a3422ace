"""Define the keys of the auxiliary one-to-many matching; see `modeling/one_to_many.py`."""

from dataclasses import dataclass

from detectron2.config import CfgNode as CN

from ..errors import ConfigError


@dataclass(frozen=True)
class OneToMany:
    """The settings of the auxiliary matching.

    Attributes:
        copies: how many auxiliary predictions each object is matched with; 0 turns it off.
        num_auxiliary: the number of auxiliary predictions, 0 if it is off.
        weight: of the auxiliary losses.
    """

    copies: int
    num_auxiliary: int
    weight: float


def add_one_to_many(method: CN, count_key: str) -> None:
    """Add the keys `ONE_TO_MANY` to a method's, in place.

    Args:
        method: the method's keys.
        count_key: the name of the number of auxiliary predictions.
    """
    method.ONE_TO_MANY = CN()
    # How many auxiliary predictions every object is matched with; 0 turns the matching off.
    method.ONE_TO_MANY.COPIES = 0
    # The number of auxiliary predictions, and the weight of their losses.
    method.ONE_TO_MANY[count_key] = 100
    method.ONE_TO_MANY.WEIGHT = 1.0


def read_one_to_many(method: CN, count_key: str) -> OneToMany:
    """Return the settings of a method's keys."""
    keys = method.ONE_TO_MANY
    return OneToMany(keys.COPIES, keys[count_key] if keys.COPIES else 0, keys.WEIGHT)


def check_one_to_many(method: CN, count_key: str, prefix: str) -> None:
    """Check the keys `ONE_TO_MANY` of a method.

    Args:
        method: the method's keys.
        count_key: the name of the number of auxiliary predictions.
        prefix: the dotted name of the method's keys.

    Raises:
        ConfigError: names the key, its value, and what is allowed.
    """
    keys, prefix = method.ONE_TO_MANY, f"{prefix}.ONE_TO_MANY"
    if keys.COPIES < 0:
        raise ConfigError(
            f"{prefix}.COPIES is {keys.COPIES}; at least 1 is needed, or 0 to match objects one to "
            "one only."
        )
    if keys.COPIES and keys[count_key] < keys.COPIES:
        raise ConfigError(
            f"{prefix}.{count_key} is {keys[count_key]}, fewer than {prefix}.COPIES, "
            f"{keys.COPIES}: not even one object can be matched so often. Set {count_key} to "
            "COPIES times the number of objects of a usual image, or lower COPIES."
        )
