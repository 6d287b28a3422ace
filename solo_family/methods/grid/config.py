"""Define the keys that SOLO and SOLOv2 share: levels, grids, towers, inference, losses."""

from collections.abc import Sequence

from detectron2.config import CfgNode as CN

from ...config.backbone import check_norm
from ...config.caps import cap
from ...config.rules import (
    check_at_least,
    check_one_of,
    check_same_length,
    check_shares,
    get_key,
)
from ...errors import ConfigError
from ...registry import METHODS


def add_grid_keys(method: CN) -> None:
    """Add the shared keys to `MODEL.SOLO` or `MODEL.SOLOV2`, in place.

    AdelaiDet's keys come first, with its names and defaults; our own keys follow.
    """
    # Feature levels of the head, the strides that they are resized to, and the range of the objects
    # that each level learns: sqrt(width x height) of the box in pixels of the network's input, both
    # ends inclusive.
    method.INSTANCE_IN_FEATURES = ["p2", "p3", "p4", "p5", "p6"]
    method.FPN_INSTANCE_STRIDES = [8, 8, 16, 32, 32]
    method.FPN_SCALE_RANGES = ((1, 96), (48, 192), (96, 384), (192, 768), (384, 2048))
    method.NUM_GRIDS = [40, 36, 24, 16, 12]
    # Size of the centre region, whose cells are positive, as a fraction of the box's size.
    method.SIGMA = 0.2

    # Towers of the head. The backbone determines the number of input channels; a value that is
    # neither the default nor the backbone's own is an error.
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
    # The maximum number of instances per image; 0 takes TEST.DETECTIONS_PER_IMAGE, which is 100.
    method.MAX_PER_IMG = 0
    method.NMS_TYPE = "matrix"  # or, by mask IoU: mask (greedy, hard NMS), soft, fast
    method.NMS_KERNEL = "gaussian"  # or linear; used by matrix and soft NMS
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
    """Add the keys that AdelaiDet does not have. The defaults do what the official code does."""
    # Which convolutions of a tower USE_DCN_IN_INSTANCE makes deformable: all, or last (Light).
    method.DCN_CONVS = "all"
    # Which of two objects in one cell the mask loss uses: both (two pairs of a cell and a mask), or
    # only the last.
    method.SHARED_CELL = "both"
    # What the sum of the mask losses is divided by: the number of (cell, mask) pairs, which makes
    # it a mean, or the number of distinct positive cells (mmdetection).
    method.LOSS.DICE_NORMALIZER = "pairs"  # or cells
    # Drop candidates whose mask, at stride 4, has at most as many pixels as the level's stride. The
    # official code does so; it loses the smallest objects.
    method.AREA_FILTER = True
    # Let masks of different classes suppress one another.
    method.CLASS_AGNOSTIC_NMS = False
    # The IoU above which NMS_TYPE mask and fast drop the mask with the lower score (a constant in
    # AdelaiDet), and from which on the linear kernel of soft lowers its score.
    method.MASK_NMS_THR = 0.5


def grid_keys(cfg: CN, name: str) -> CN | None:
    """Return the keys of a method that has grids, for instance `cfg.MODEL.SOLOV2`.

    Args:
        cfg: the configuration.
        name: the method's name in `MODEL.META_ARCHITECTURE`.

    Returns:
        The method's keys; None if the method is unknown or has no grids.
    """
    method = METHODS.get(name)
    if method is None:
        return None
    keys = get_key(cfg, method.num_classes_key.rpartition(".")[0])
    return keys if "NUM_GRIDS" in keys else None


def check_grid_keys(cfg: CN, prefix: str) -> None:
    """Check the keys of one method.

    Args:
        cfg: the configuration.
        prefix: "MODEL.SOLO" or "MODEL.SOLOV2".

    Raises:
        ConfigError: a value is not allowed; the message names the key, the value and what is.
    """
    method = get_key(cfg, prefix)
    per_level = ("INSTANCE_IN_FEATURES", "FPN_INSTANCE_STRIDES", "FPN_SCALE_RANGES", "NUM_GRIDS")
    check_same_length(cfg, [f"{prefix}.{key}" for key in per_level])
    check_one_of(cfg, f"{prefix}.TYPE_DCN", ("DCN", "DCNv2"))
    check_one_of(cfg, f"{prefix}.DCN_CONVS", ("all", "last"))
    check_one_of(cfg, f"{prefix}.SHARED_CELL", ("both", "last"))
    check_one_of(cfg, f"{prefix}.NMS_TYPE", ("matrix", "mask", "soft", "fast"))
    check_one_of(cfg, f"{prefix}.NMS_KERNEL", ("gaussian", "linear"))
    check_at_least(cfg, [f"{prefix}.NMS_SIGMA"], least=0)  # below, scores would rise
    check_at_least(cfg, [f"{prefix}.LOSS.FOCAL_GAMMA"], least=0)  # below, losses are infinite
    check_at_least(cfg, [f"{prefix}.SIGMA"], least=0)  # below, no cell is positive
    check_norm(cfg, f"{prefix}.NORM")
    check_at_least(cfg, [f"{prefix}.INSTANCE_CHANNELS", f"{prefix}.NUM_INSTANCE_CONVS"])
    thresholds = ("SCORE_THR", "UPDATE_THR", "MASK_THR", "MASK_NMS_THR")
    check_shares(cfg, [f"{prefix}.{key}" for key in thresholds])
    if not 0 < method.PRIOR_PROB < 1:
        raise ConfigError(
            f"{prefix}.PRIOR_PROB is {method.PRIOR_PROB}; a probability above 0 and below 1 is "
            "needed, such as 0.01."
        )
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


def check_level_strides(prefix: str, strides: Sequence[int], multiple: int, masked: bool) -> None:
    """Refuse strides of levels that inputs of some size can't have.

    Args:
        prefix: "MODEL.SOLO" or "MODEL.SOLOV2".
        strides: of the head's levels, from 1.
        multiple: what inputs are padded to multiples of.
        masked: whether each level has masks of its own, of half its stride: a stride that leaves a
            rest of the input would make them smaller than the true masks.

    Raises:
        ConfigError: names the key, the stride, and those that are allowed.
    """
    allowed = [stride for stride in range(1, multiple + 1) if multiple % stride == 0]
    for stride in strides:
        if masked and (stride not in allowed or stride % 2):
            even = ", ".join(str(one) for one in allowed if one % 2 == 0)
            raise ConfigError(
                f"{prefix}.FPN_INSTANCE_STRIDES has {stride}, but inputs are padded to multiples "
                f"of {multiple}, and a level's masks have half its stride; allowed: {even}."
            )
        if stride > multiple:
            raise ConfigError(
                f"{prefix}.FPN_INSTANCE_STRIDES has {stride}, but inputs are padded to multiples "
                f"of {multiple}: in the smallest one a level would have no pixel; allowed: 1 to "
                f"{multiple}."
            )


def grid_limits(cfg: CN, prefix: str) -> dict[str, int]:
    """Return what limits the instances of an image, see `config.caps.instance_limits`.

    A cell gives one mask. Grids that follow the image have as many cells as it needs.

    Args:
        cfg: the configuration.
        prefix: "MODEL.SOLO" or "MODEL.SOLOV2".
    """
    method = get_key(cfg, prefix)
    limits = {**cap(cfg, f"{prefix}.MAX_PER_IMG"), f"{prefix}.NMS_PRE": method.NMS_PRE}
    if not method.get("GRID_REFERENCE_SIZE", ()):
        limits[f"{prefix}.NUM_GRIDS"] = sum(side * side for side in method.NUM_GRIDS)
    return limits
