"""Keys that SOLO and SOLOv2 share: levels, grids, the category branch, selection, losses."""

from detectron2.config import CfgNode as CN

from ...config.rules import check_one_of, check_same_length, get_key
from ...errors import ConfigError
from ...registry import METHODS


def add_grid_keys(method: CN) -> None:
    """Add the shared keys to `MODEL.SOLO` or `MODEL.SOLOV2`, in place.

    AdelaiDet's names and defaults first, then ours.
    """
    # Feature levels of the head, the strides they are resized to, and the objects each is for:
    # sqrt(width x height) of the box in pixels of the network's input, both ends inclusive.
    method.INSTANCE_IN_FEATURES = ["p2", "p3", "p4", "p5", "p6"]
    method.FPN_INSTANCE_STRIDES = [8, 8, 16, 32, 32]
    method.FPN_SCALE_RANGES = ((1, 96), (48, 192), (96, 384), (192, 768), (384, 2048))
    method.NUM_GRIDS = [40, 36, 24, 16, 12]
    # Side of the region of positive cells around the centre of mass, as a share of the box's.
    method.SIGMA = 0.2

    # Towers of the head. The input channels are the backbone's own; a value that is neither the
    # default nor theirs is an error.
    method.INSTANCE_IN_CHANNELS = 256
    method.INSTANCE_CHANNELS = 512
    method.NUM_INSTANCE_CONVS = 4
    method.USE_DCN_IN_INSTANCE = False
    method.TYPE_DCN = "DCN"  # or DCNv2
    # 0 takes the count from the dataset.
    method.NUM_CLASSES = 80
    method.NORM = "GN"  # gcd(32, channels) groups; or "", BN, SyncBN, ...
    method.USE_COORD_CONV = True
    method.PRIOR_PROB = 0.01

    # Inference.
    method.NMS_PRE = 500
    method.SCORE_THR = 0.1
    method.UPDATE_THR = 0.05
    method.MASK_THR = 0.5
    # The most instances of an image; 0 follows TEST.DETECTIONS_PER_IMAGE, which is 100.
    method.MAX_PER_IMG = 0
    method.NMS_TYPE = "matrix"  # or, by mask IoU: mask (greedy, hard NMS), soft, fast
    method.NMS_KERNEL = "gaussian"  # or linear; of matrix and soft NMS
    method.NMS_SIGMA = 2

    # Losses.
    method.LOSS = CN()
    method.LOSS.FOCAL_USE_SIGMOID = True
    method.LOSS.FOCAL_ALPHA = 0.25
    method.LOSS.FOCAL_GAMMA = 2.0
    method.LOSS.FOCAL_WEIGHT = 1.0
    method.LOSS.DICE_WEIGHT = 3.0

    _add_our_keys(method)


def _add_our_keys(method: CN) -> None:
    """Keys that AdelaiDet does not have. The defaults are what the official code does."""
    # Which convolutions of the towers USE_DCN_IN_INSTANCE makes deformable: all, or last (Light).
    method.DCN_CONVS = "all"
    # Two objects in one cell: both give a (cell, mask) pair to the mask loss, or only the last.
    method.SHARED_CELL = "both"
    # The mask loss is averaged over (cell, mask) pairs, or summed and divided by the number of
    # distinct positive cells (mmdetection).
    method.LOSS.DICE_NORMALIZER = "pairs"  # or cells
    # Candidates whose mask has no more pixels, at stride 4, than the level's stride are dropped.
    # The official code does it; it costs the smallest objects.
    method.AREA_FILTER = True
    # Let masks of different classes suppress one another.
    method.CLASS_AGNOSTIC_NMS = False
    # IoU above which NMS_TYPE mask and fast drop the lower-scored mask (AdelaiDet's constant), and
    # from which the linear kernel of soft lowers its score.
    method.MASK_NMS_THR = 0.5


def grid_keys(cfg: CN, name: str) -> CN | None:
    """Return the keys of a method's grid, for instance `cfg.MODEL.SOLOV2`; None if it has none.

    Args:
        cfg: the configuration.
        name: of the method, as `MODEL.META_ARCHITECTURE`.
    """
    method = METHODS.get(name)
    if method is None:
        return None
    keys = get_key(cfg, method.num_classes_key.rpartition(".")[0])
    return keys if "NUM_GRIDS" in keys else None


def check_grid_keys(cfg: CN, prefix: str) -> None:
    """Check one method's keys.

    Args:
        cfg: the configuration.
        prefix: "MODEL.SOLO" or "MODEL.SOLOV2".

    Raises:
        ConfigError: names the key, its value, what is allowed.
    """
    method = get_key(cfg, prefix)
    per_level = ("INSTANCE_IN_FEATURES", "FPN_INSTANCE_STRIDES", "FPN_SCALE_RANGES", "NUM_GRIDS")
    check_same_length(cfg, [f"{prefix}.{key}" for key in per_level])
    check_one_of(cfg, f"{prefix}.TYPE_DCN", ("DCN", "DCNv2"))
    check_one_of(cfg, f"{prefix}.DCN_CONVS", ("all", "last"))
    check_one_of(cfg, f"{prefix}.SHARED_CELL", ("both", "last"))
    check_one_of(cfg, f"{prefix}.NMS_TYPE", ("matrix", "mask", "soft", "fast"))
    check_one_of(cfg, f"{prefix}.NMS_KERNEL", ("gaussian", "linear"))
    check_one_of(cfg, f"{prefix}.LOSS.DICE_NORMALIZER", ("pairs", "cells"))
    check_one_of(cfg, f"{prefix}.LOSS.FOCAL_USE_SIGMOID", (True,))
    for key in ("FPN_INSTANCE_STRIDES", "NUM_GRIDS"):
        if any(not isinstance(value, int) or value < 1 for value in method[key]):
            raise ConfigError(f"{prefix}.{key} is {method[key]}; whole numbers from 1 are needed.")
    for pair in method.FPN_SCALE_RANGES:
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise ConfigError(
                f"{prefix}.FPN_SCALE_RANGES has {pair}; each entry must be a pair: (low, high)."
            )
        low, high = pair
        if low > high:
            raise ConfigError(
                f"{prefix}.FPN_SCALE_RANGES has ({low}, {high}): the lower end comes first."
            )
