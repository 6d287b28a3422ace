"""Config keys that the user gives: how images are read, and lines of the recipe."""

from collections.abc import Sequence

from detectron2.config import CfgNode

from ..config import get_cfg
from ..config.load import merge_pairs
from ..config.rules import get_key
from ..data.loading.images import Reading
from .choice import Choice


def reading_of(opts: Sequence[str], base: CfgNode | None = None) -> Reading:
    """Return how images are read with `KEY VALUE` pairs.

    Args:
        opts: the pairs.
        base: the configuration that they change; by default the one of `get_cfg`.

    Raises:
        ConfigError: a key is unknown, or a value has another type.
    """
    return Reading.from_config(_merged(opts, base))


def with_given(choices: Sequence[Choice], opts: Sequence[str]) -> list[Choice]:
    """Return the lines of a recipe with `KEY VALUE` pairs in place of, or after, its own.

    Raises:
        ConfigError: a key is unknown, or a value has another type.
    """
    cfg = _merged(opts)
    given = [Choice(key, get_key(cfg, key), "given with --opts") for key in opts[::2]]
    return list({choice.key: choice for choice in (*choices, *given)}.values())


def _merged(opts: Sequence[str], base: CfgNode | None = None) -> CfgNode:
    cfg = get_cfg() if base is None else base.clone()
    cfg.defrost()
    merge_pairs(cfg, opts)
    return cfg
