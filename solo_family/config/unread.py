"""Keys of detectron2's other models, which no model of this package reads."""

from functools import cache
from typing import Any

from detectron2.config import CfgNode, get_cfg

from ..errors import ConfigError
from ..registry import METHODS, Method
from .load import dotted_values

# Nodes of MODEL that only detectron2's own meta-architectures read.
_UNREAD = (
    *("KEYPOINT_ON", "PROPOSAL_GENERATOR", "ANCHOR_GENERATOR", "RPN", "ROI_HEADS", "ROI_BOX_HEAD"),
    *("ROI_BOX_CASCADE_HEAD", "ROI_MASK_HEAD", "ROI_KEYPOINT_HEAD", "PANOPTIC_FPN", "RETINANET"),
)
_GRID_KEY = "GRID_REFERENCE_SIZE"


def refuse_unread_keys(cfg: CfgNode, method: Method) -> None:
    """Refuse a changed value of a key that the model does not read.

    Args:
        cfg: the configuration.
        method: the method of its model, for the keys to use instead.

    Raises:
        ConfigError: a value differs from its default; the message names the key, the value, the key
            to use instead if there is one, and the default.
    """
    defaults = _unread_values(_defaults())
    for key, value in _unread_values(cfg.MODEL).items():
        if key in defaults and _plain(value) != _plain(defaults[key]):
            raise ConfigError(
                f"{key} is {value!r}, but {method.title or method.meta_arch} does not read it"
                f"{_instead(key, method)}. Leave it at {defaults[key]!r}."
            )

    _refuse_grids_of_others(cfg, method)


def _refuse_grids_of_others(cfg: CfgNode, method: Method) -> None:
    """Refuse `GRID_REFERENCE_SIZE` of another method."""
    own = method.num_classes_key.rpartition(".")[0]
    for other in METHODS.values():
        prefix = other.num_classes_key.rpartition(".")[0]
        node = cfg.MODEL.get(prefix.rpartition(".")[2], {})
        size = node.get(_GRID_KEY, ())
        if prefix != own and size:
            raise ConfigError(
                f"{prefix}.{_GRID_KEY} is {size!r}, but {method.title or method.meta_arch} does "
                "not read it: only SOLOv2's grids can follow the image. Leave it at ()."
            )


def _unread_values(model: CfgNode) -> dict[str, Any]:
    """Return the values of the nodes in `_UNREAD` of a `MODEL` node, by their dotted keys."""
    nodes = {name: model[name] for name in _UNREAD if name in model}
    return dotted_values(nodes, "MODEL.")


def _instead(key: str, method: Method) -> str:
    own = {
        "NUM_CLASSES": method.num_classes_key,
        "SCORE_THRESH_TEST": method.score_key,
    }.get(key.rpartition(".")[2])
    return f": set {own}" if own else ""


@cache
def _defaults() -> CfgNode:
    return get_cfg().MODEL


def _plain(value: Any) -> Any:
    """Convert tuples to lists, because yaml does not distinguish them."""
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else value
