"""Which method defines which keys."""

from functools import cache

from detectron2.config import get_cfg

from ..registry import Method, Reference, resolve
from .common import add_common_config
from .load import dotted_values


def own_keys(method: Method) -> frozenset[str]:
    """Return the dotted keys that a method adds to the shared ones, and that of its class count."""
    return _added(method.add_config) | {method.num_classes_key}


@cache
def _added(add_config: Reference | None) -> frozenset[str]:
    cfg = get_cfg()
    add_common_config(cfg)
    before = set(dotted_values(cfg))
    if add_config is not None:
        resolve(add_config)(cfg)
    return frozenset(set(dotted_values(cfg)) - before)
