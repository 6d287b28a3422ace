"""Keys that take any number, where yacs asks for the type of the default."""

from collections.abc import Iterable
from typing import Any

from detectron2.config import CfgNode

# The published configs write 2, an integer, so that the default is one; 0.5 means as much.
_ANY_NUMBER = ("NMS_SIGMA",)


def admit_numbers(cfg: CfgNode, values: Iterable[tuple[str, Any]]) -> None:
    """Give the keys that take any number the type of the values that are merged next, in place.

    Args:
        cfg: the configuration that they are merged into.
        values: dotted keys, and values as they are or as text. All other keys are passed over.
    """
    for key, value in values:
        *path, name = key.split(".")
        if name not in _ANY_NUMBER:
            continue
        node: Any = cfg
        for part in path:
            node = node.get(part) if isinstance(node, CfgNode) else None
        given = type(CfgNode._decode_cfg_value(value))
        if isinstance(node, CfgNode) and name in node and given in (int, float):
            node[name] = given(node[name])
