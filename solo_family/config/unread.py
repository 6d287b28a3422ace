"""Every key of detectron2: read here, or refused where it differs from its default.

Set on a model of this family those of other models would do nothing.
"""

from functools import cache
from typing import Any

from detectron2.config import CfgNode, get_cfg

from ..errors import ConfigError
from ..registry import METHODS, Method
from .load import dotted_values
from .rules import as_lists

# Read by every model, the loaders, the engine or the evaluation, or checked by `check_config`.
READ = (
    *("MODEL.META_ARCHITECTURE", "MODEL.WEIGHTS", "MODEL.DEVICE", "MODEL.PIXEL_MEAN"),
    *("MODEL.PIXEL_STD", "MODEL.BACKBONE", "MODEL.FPN", "MODEL.RESNETS", "MODEL.LOAD_PROPOSALS"),
    *("INPUT", "DATASETS.TRAIN", "DATASETS.TEST", "DATALOADER", "SOLVER"),
    *("TEST.EVAL_PERIOD", "TEST.EXPECTED_RESULTS", "TEST.DETECTIONS_PER_IMAGE", "TEST.AUG"),
    *("TEST.PRECISE_BN", "OUTPUT_DIR", "SEED", "CUDNN_BENCHMARK", "VIS_PERIOD", "VERSION"),
    # Of detectron2 after 0.6: read by its `default_setup`.
    "FLOAT32_PRECISION",
    # All models here have masks, whatever it says.
    "MODEL.MASK_ON",
)
# Read by methods with such a head alone. Labels that are pictures have its value of no class.
_HEAD = "MODEL.SEM_SEG_HEAD"
_OF_LABELS = f"{_HEAD}.IGNORE_VALUE"
# Read by detectron2's own meta-architectures and evaluators of boxes and keypoints.
UNREAD = (
    *("MODEL.KEYPOINT_ON", "MODEL.PROPOSAL_GENERATOR", "MODEL.ANCHOR_GENERATOR", "MODEL.RPN"),
    *("MODEL.ROI_HEADS", "MODEL.ROI_BOX_HEAD", "MODEL.ROI_BOX_CASCADE_HEAD", "MODEL.ROI_MASK_HEAD"),
    *("MODEL.ROI_KEYPOINT_HEAD", "MODEL.PANOPTIC_FPN", "MODEL.RETINANET", _HEAD),
    *("DATASETS.PROPOSAL_FILES_TRAIN", "DATASETS.PROPOSAL_FILES_TEST"),
    *("DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TRAIN", "DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TEST"),
    *("TEST.KEYPOINT_OKS_SIGMAS", "GLOBAL"),
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
    values = dotted_values(cfg)
    for key, default in _unread_defaults().items():
        if key.startswith(_HEAD) and (method.sem_seg_heads or key == _OF_LABELS):
            continue
        if key in values and as_lists(values[key]) != as_lists(default):
            raise ConfigError(
                f"{key} is {values[key]!r}, but {method.title or method.meta_arch} does not read "
                f"it{_instead(key, method)}. Leave it at {default!r}."
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


def is_under(key: str, nodes: tuple[str, ...]) -> bool:
    """Return whether a dotted key is one of some nodes, or below one."""
    return any(key == node or key.startswith(f"{node}.") for node in nodes)


def _instead(key: str, method: Method) -> str:
    own = {
        "NUM_CLASSES": method.num_classes_key,
        "SCORE_THRESH_TEST": method.score_key,
    }.get(key.rpartition(".")[2])
    return f": set {own}" if own else ""


@cache
def _unread_defaults() -> dict[str, Any]:
    values = dotted_values(get_cfg())
    return {key: value for key, value in values.items() if is_under(key, UNREAD)}
