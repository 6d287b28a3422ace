"""Published weights of the zoo, under our names, and the config keys that they imply."""

import functools
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from fvcore.common.checkpoint import Checkpointer

from ..config import check_config
from ..config.rules import as_lists, get_key
from ..fetch.names import ZOO, weights_file
from .convert import Converted, convert

logger = logging.getLogger(__name__)


def with_implied_keys(cfg: CfgNode) -> CfgNode:
    """Return the configuration of the model that published weights belong to.

    The keys that the weights imply override the configuration's, with a line in the log; its other
    keys stay.

    Args:
        cfg: a configuration; if its `MODEL.WEIGHTS` are not the zoo's, it is returned as it is.

    Raises:
        ConfigError, DataError: the weights can't be downloaded or converted.
    """
    if not cfg.MODEL.WEIGHTS.startswith(ZOO):
        return cfg
    keys = _converted(weights_file(cfg.MODEL.WEIGHTS)).keys
    implied = cfg.clone()
    implied.defrost()
    for key, value in keys.items():
        given = get_key(cfg, key)
        if as_lists(given) != as_lists(value):
            logger.info(f"{cfg.MODEL.WEIGHTS}: {key} is {value} for these weights, not {given}.")
            implied.merge_from_list([key, value])
    check_config(implied)
    if cfg.is_frozen():
        implied.freeze()
    return implied


def read_published(path: Path) -> Converted:
    """Return a file of the zoo under our names.

    Raises:
        DataError: it can't be converted.
    """
    converted = _converted(path)
    _converted.cache_clear()  # weights are large, and read once
    return converted


@contextmanager
def converting(checkpointer: Checkpointer) -> Iterator[None]:
    """Let a checkpointer read files of other code bases under our names, in the `with` block."""

    def load_file(path: str) -> dict[str, Any]:
        return {"model": read_published(Path(path)).weights}

    checkpointer._load_file = load_file
    try:
        yield
    finally:
        del checkpointer._load_file


@functools.lru_cache(maxsize=1)
def _converted(path: Path) -> Converted:
    return convert(path)
