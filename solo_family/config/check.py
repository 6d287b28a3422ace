"""Refuse configurations that can't work, before anything is built."""

from detectron2.config import CfgNode
from detectron2.modeling import BACKBONE_REGISTRY, META_ARCH_REGISTRY

from ..errors import ConfigError
from ..registry import METHODS, resolve
from .backbone import check_backbone
from .caps import instance_limits
from .copy_paste import check_copy_paste
from .output import check_output
from .pictures import check_pictures
from .ranges import check_ranges
from .rules import META_ARCH, check_one_of, check_registered
from .sampling import check_sampling
from .solver import check_solver
from .tiles import check_tile
from .unread import refuse_unread_keys

LR_SCHEDULES = (
    "WarmupMultiStepLR",
    "WarmupCosineLR",
    "WarmupStepWithFixedGammaLR",
    "WarmupPolyLR",
    "OneCycleLR",
)


def check_config(cfg: CfgNode) -> None:
    """Check the shared keys and those of the chosen method.

    Raises:
        ConfigError: names the key, its value, and what is allowed.
    """
    check_one_of(cfg, "SOLVER.OPTIMIZER", ("", "SGD", "AdamW", "ADAMW"))
    check_one_of(cfg, "SOLVER.AMP.PRECISION", ("float16", "bfloat16"))
    check_one_of(cfg, "MODEL.INFERENCE.PRECISION", ("float32", "float16", "bfloat16", "auto"))
    check_one_of(cfg, "MODEL.INFERENCE.OPTIMIZE", ("auto", "off"))
    check_one_of(cfg, "SOLVER.LR_SCHEDULER_NAME", LR_SCHEDULES)
    check_one_of(cfg, "INPUT.EMPTY_SEGMENTS", ("", "keep", "drop"))
    check_one_of(cfg, "INPUT.RESIZE", ("pillow", "cv2"))
    check_one_of(cfg, "INPUT.LSJ.PAD", ("gray", "mean"))
    check_one_of(cfg, "TEST.COCO_LIBRARY", ("hotcoco", "pycocotools"))
    check_one_of(cfg, "INPUT.LABEL_SAMPLING", ("", "center", "corner"))
    check_one_of(cfg, "SOLVER.WARMUP_METHOD", ("linear", "constant"))
    check_registered(META_ARCH, cfg.MODEL.META_ARCHITECTURE, META_ARCH_REGISTRY)
    check_registered("MODEL.BACKBONE.NAME", cfg.MODEL.BACKBONE.NAME, BACKBONE_REGISTRY)
    check_backbone(cfg)
    check_pictures(cfg)
    _check_crop(cfg)
    check_copy_paste(cfg)
    check_sampling(cfg)
    check_output(cfg)
    check_solver(cfg)
    if cfg.DATALOADER.CACHE_BYTES < 0:
        raise ConfigError(
            f"DATALOADER.CACHE_BYTES is {cfg.DATALOADER.CACHE_BYTES}; it must be a number of "
            "bytes, for instance 2000000000, or 0 for no cache of decoded images."
        )
    tile = cfg.TEST.TILE
    check_tile(tile.SIZE, tile.OVERLAP, tile.MERGE, tile.BATCH)
    _check_evaluation_keys(cfg)
    if cfg.MODEL.LOAD_PROPOSALS:
        raise ConfigError(
            "MODEL.LOAD_PROPOSALS is True, but no model of this package uses proposals, and "
            "proposal files are pickles, which can run code. Set MODEL.LOAD_PROPOSALS False."
        )
    if cfg.SOLVER.BACKBONE_MULTIPLIER < 0:
        raise ConfigError(
            f"SOLVER.BACKBONE_MULTIPLIER is {cfg.SOLVER.BACKBONE_MULTIPLIER}; it must be "
            "positive, or 0 for the method's own value."
        )
    if not 0 < cfg.SOLVER.BACKBONE_LAYER_DECAY <= 1:
        raise ConfigError(
            f"SOLVER.BACKBONE_LAYER_DECAY is {cfg.SOLVER.BACKBONE_LAYER_DECAY}; it must be above 0 "
            "and at most 1, which is one rate for all layers."
        )
    method = METHODS.get(cfg.MODEL.META_ARCHITECTURE)
    check_ranges(cfg, method)
    if method is not None:
        refuse_unread_keys(cfg, method)
        if method.check_config is not None:
            resolve(method.check_config)(cfg)
        _check_limits(cfg)


def _check_limits(cfg: CfgNode) -> None:
    """Refuse limits that leave no instance, and detectron2's -1, which would leave out the last."""
    for key, limit in instance_limits(cfg).items():
        if limit < 1:
            raise ConfigError(
                f"{key} is {limit}, which is how many instances of an image the model keeps; 1 or "
                f"more is needed. For no limit set more than any image has, for instance {key} "
                "5000."
            )


def _check_crop(cfg: CfgNode) -> None:
    """Check that the size of the crop has the unit that the type of the crop requires."""
    crop = cfg.INPUT.CROP
    around = crop.AROUND_OBJECTS
    if len(around) not in (0, 2) or any(type(side) is not int or side < 1 for side in around):
        raise ConfigError(
            f"INPUT.CROP.AROUND_OBJECTS is {list(around)}; it must be height and width in pixels "
            "of the images as they are, (512, 512), or () for no such crop."
        )
    if not crop.ENABLED:
        return
    check_one_of(
        cfg, "INPUT.CROP.TYPE", ("relative_range", "relative", "absolute", "absolute_range")
    )
    relative = crop.TYPE.startswith("relative")
    if any(side <= 0 for side in crop.SIZE) or len(crop.SIZE) != 2:
        raise ConfigError(
            f"INPUT.CROP.SIZE is {list(crop.SIZE)}; it must be two positive numbers, height and "
            "width."
        )
    if relative and max(crop.SIZE) > 1:
        raise ConfigError(
            f"INPUT.CROP.SIZE is {list(crop.SIZE)} with INPUT.CROP.TYPE {crop.TYPE!r}, which takes "
            "fractions of the image, from 0 to 1. For pixels set INPUT.CROP.TYPE absolute."
        )
    if not relative and any(side != int(side) for side in crop.SIZE):
        raise ConfigError(
            f"INPUT.CROP.SIZE is {list(crop.SIZE)} with INPUT.CROP.TYPE {crop.TYPE!r}, which takes "
            "whole pixels. For fractions of the image set INPUT.CROP.TYPE relative."
        )


def _check_evaluation_keys(cfg: CfgNode) -> None:
    """Check the keys of what evaluations during training do besides."""
    test = cfg.TEST
    patience = test.EARLY_STOP_PATIENCE
    if patience < 0:
        raise ConfigError(
            f"TEST.EARLY_STOP_PATIENCE is {patience}; it must be a number of evaluations, or 0 for "
            "no early end."
        )
    if patience and not (test.BEST_METRIC and test.EVAL_PERIOD > 0):
        raise ConfigError(
            f"TEST.EARLY_STOP_PATIENCE is {patience}, which counts evaluations without a better "
            f"TEST.BEST_METRIC, but that is {test.BEST_METRIC!r} and TEST.EVAL_PERIOD "
            f"{test.EVAL_PERIOD}. Set both, or TEST.EARLY_STOP_PATIENCE 0."
        )
    if test.EVAL_LOSS and not cfg.DATASETS.TEST:
        raise ConfigError(
            "TEST.EVAL_LOSS is True, but DATASETS.TEST is empty: there are no validation images. "
            "Name a dataset there, or set TEST.EVAL_LOSS False."
        )
    if test.EVAL_LOSS and test.TILE.SIZE:
        raise ConfigError(
            f"TEST.EVAL_LOSS is True with TEST.TILE.SIZE {test.TILE.SIZE}, but losses are computed "
            "on whole images, for which there may be no memory. Set TEST.EVAL_LOSS False."
        )
