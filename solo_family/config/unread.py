"""Keys of detectron2's other models: set on a model of this family they would do nothing."""

from collections.abc import Iterator
from functools import cache
from typing import Any

from detectron2.config import CfgNode, get_cfg

from ..errors import ConfigError
from ..registry import Method

# Nodes of MODEL that only detectron2's own meta-architectures read.
_UNREAD = (
    *("KEYPOINT_ON", "PROPOSAL_GENERATOR", "ANCHOR_GENERATOR", "RPN", "ROI_HEADS", "ROI_BOX_HEAD"),
    *("ROI_BOX_CASCADE_HEAD", "ROI_MASK_HEAD", "ROI_KEYPOINT_HEAD", "PANOPTIC_FPN", "RETINANET"),
)


def refuse_unread_keys(cfg: CfgNode, method: Method) -> None:
    """Refuse a value that is not the default where no model of this family would read it.

    Args:
        cfg: the configuration.
        method: the method of its model, whose keys are named instead.

    Raises:
        ConfigError: names the key, its value, the key to use, and the value to leave.
    """
    for name in _UNREAD:
        for key, default in _leaves(f"MODEL.{name}", _defaults()[name]):
            value: Any = cfg
            for part in key.split("."):
                value = value.get(part, default) if isinstance(value, CfgNode) else default
            if _plain(value) != _plain(default):
                raise ConfigError(
                    f"{key} is {value!r}, but {method.title or method.meta_arch} does not read it"
                    f"{_instead(key, method)}. Leave it at {default!r}."
                )


def _instead(key: str, method: Method) -> str:
    own = {
        "NUM_CLASSES": method.num_classes_key,
        "SCORE_THRESH_TEST": method.score_key,
    }.get(key.rpartition(".")[2])
    return f": set {own}" if own else ""


@cache
def _defaults() -> CfgNode:
    return get_cfg().MODEL


def _leaves(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, CfgNode):
        yield prefix, value
        return
    for name, child in value.items():
        yield from _leaves(f"{prefix}.{name}", child)


def _plain(value: Any) -> Any:
    """Return lists and tuples alike, which yaml does not tell apart."""
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else value
