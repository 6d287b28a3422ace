"""The ranges of numbers, of all keys in one place, that no other check has.

Beyond them, training would go wrong without a word, or end in an assertion of torch or detectron2.
"""

from dataclasses import dataclass
from math import inf, isinf, isnan
from typing import Any

from detectron2.config import CfgNode

from ..errors import ConfigError
from ..registry import Method
from .load import dotted_values
from .owners import own_keys
from .rules import check_one_of, get_key


@dataclass(frozen=True)
class Range:
    """What a number, or each number of a list, can be.

    Attributes:
        words: what is needed, for the message.
        low, high: the ends.
        has_low, has_high: whether the ends are allowed, too.
    """

    words: str
    low: float
    high: float = inf
    has_low: bool = True
    has_high: bool = False

    def holds(self, value: float) -> bool:
        """Return whether a number is in the range."""
        above = value >= self.low if self.has_low else value > self.low
        return above and (value <= self.high if self.has_high else value < self.high)


NOT_NEGATIVE = Range("at least 0", 0)
POSITIVE = Range("a number above 0", 0, has_low=False)
COUNT = Range("at least 1", 1)
SHARE = Range("a number from 0 to 1", 0, 1, has_high=True)
SOME_SHARE = Range("a number above 0, at most 1,", 0, 1, has_low=False, has_high=True)
BELOW_ONE = Range("a number from 0 to below 1", 0, 1)
# Of the focal loss: detectron2 takes a negative one for none.
ALPHA = Range("a number from 0 to 1, or -1 for no weights,", -inf, 1, has_high=True)

RANGES: dict[str, Range] = {
    "SOLVER.BASE_LR": NOT_NEGATIVE,
    "SOLVER.BASE_LR_END": NOT_NEGATIVE,
    "SOLVER.BIAS_LR_FACTOR": NOT_NEGATIVE,
    "SOLVER.MOMENTUM": BELOW_ONE,
    "SOLVER.WEIGHT_DECAY": NOT_NEGATIVE,
    "SOLVER.WEIGHT_DECAY_NORM": NOT_NEGATIVE,
    "SOLVER.WEIGHT_DECAY_BIAS": NOT_NEGATIVE,
    "SOLVER.WEIGHT_DECAY_EMBED": NOT_NEGATIVE,
    "SOLVER.IMS_PER_BATCH": NOT_NEGATIVE,
    "SOLVER.GAMMA": NOT_NEGATIVE,
    "SOLVER.WARMUP_FACTOR": NOT_NEGATIVE,
    "SOLVER.WARMUP_ITERS": NOT_NEGATIVE,
    "SOLVER.POLY_LR_POWER": NOT_NEGATIVE,
    "SOLVER.POLY_LR_CONSTANT_ENDING": SHARE,
    "SOLVER.NUM_DECAYS": COUNT,
    "SOLVER.CHECKPOINT_PERIOD": COUNT,
    "SOLVER.REFERENCE_BATCH_SIZE": NOT_NEGATIVE,
    "SOLVER.CLIP_GRADIENTS.CLIP_VALUE": POSITIVE,
    "SOLVER.CLIP_GRADIENTS.NORM_TYPE": Range("a number above 0", 0, has_low=False, has_high=True),
    "SOLVER.EMA.DECAY": BELOW_ONE,
    # 0 leaves images as large as they are.
    "INPUT.MIN_SIZE_TRAIN": NOT_NEGATIVE,
    "INPUT.MIN_SIZE_TEST": NOT_NEGATIVE,
    "INPUT.MAX_SIZE_TRAIN": COUNT,
    "INPUT.MAX_SIZE_TEST": COUNT,
    "INPUT.CROP.SHORT_EDGES": COUNT,
    "INPUT.CROP.SINGLE_CATEGORY_MAX_AREA": SOME_SHARE,
    "INPUT.LSJ.IMAGE_SIZE": COUNT,
    "INPUT.LSJ.MIN_SCALE": POSITIVE,
    "INPUT.LSJ.MAX_SCALE": POSITIVE,
    "INPUT.COLOR_AUG.BRIGHTNESS": SHARE,
    "INPUT.COLOR_AUG.CONTRAST": SHARE,
    "INPUT.COLOR_AUG.SATURATION": SHARE,
    "MODEL.SEM_SEG_HEAD.COMMON_STRIDE": COUNT,
    "MODEL.SEM_SEG_HEAD.ASPP_CHANNELS": COUNT,
    "MODEL.SEM_SEG_HEAD.ASPP_DILATIONS": COUNT,
    "MODEL.SEM_SEG_HEAD.ASPP_DROPOUT": BELOW_ONE,
    "MODEL.SEM_SEG_HEAD.PROJECT_CHANNELS": COUNT,
    "MODEL.SWIN.PRETRAIN_IMG_SIZE": COUNT,
    "MODEL.SWIN.PATCH_SIZE": COUNT,
    "MODEL.SWIN.EMBED_DIM": COUNT,
    "MODEL.SWIN.DEPTHS": COUNT,
    "MODEL.SWIN.NUM_HEADS": COUNT,
    "MODEL.SWIN.WINDOW_SIZE": COUNT,
    "MODEL.SWIN.MLP_RATIO": POSITIVE,
    "MODEL.SWIN.DROP_RATE": BELOW_ONE,
    "MODEL.SWIN.ATTN_DROP_RATE": BELOW_ONE,
    "MODEL.SWIN.DROP_PATH_RATE": BELOW_ONE,
    "DATALOADER.NUM_WORKERS": NOT_NEGATIVE,
    "DATALOADER.TIMEOUT": NOT_NEGATIVE,
    "TEST.AUG.MIN_SIZES": COUNT,
    "TEST.AUG.MAX_SIZE": COUNT,
    "TEST.PRECISE_BN.NUM_ITER": COUNT,
}
# Keys of the methods, by the ends of their names.
OF_METHODS: dict[str, Range] = {
    "WEIGHT": NOT_NEGATIVE,
    "NUM_CLASSES": NOT_NEGATIVE,  # 0 takes the dataset's
    "FOCAL_ALPHA": ALPHA,
    "MATCHER.ALPHA": NOT_NEGATIVE,
    "MATCHER.BETA": NOT_NEGATIVE,
    "SCALE_FACTOR": POSITIVE,
    "TRANSFORMER_ENC_LAYERS": NOT_NEGATIVE,
}
# Lists that must have an entry.
_NOT_EMPTY = ("INPUT.MIN_SIZE_TRAIN", "TEST.AUG.MIN_SIZES")


def check_ranges(cfg: CfgNode, method: Method | None) -> None:
    """Refuse numbers beyond their ranges, in the shared keys and those of a method.

    Args:
        cfg: the configuration.
        method: the method of its model; None if it is unknown.

    Raises:
        ConfigError: names the key, its value, and what is needed.
    """
    values = dotted_values(cfg)
    for key, value in values.items():
        if any(isinstance(one, float) and isnan(one) for one in _each(value)):
            raise ConfigError(f"{key} is {value}, which is no number. Write one in digits.")
    for key, allowed in RANGES.items():
        _check(key, values.get(key), allowed)
    for key in _NOT_EMPTY:
        if not get_key(cfg, key):
            raise ConfigError(f"{key} has no sizes; name one in pixels, for instance (800,).")
    _check_augmentation(cfg)
    for key in sorted(own_keys(method)) if method is not None else ():
        for end, allowed in OF_METHODS.items():
            if key.endswith((f".{end}", f"_{end}")):
                _check(key, values.get(key), allowed)


def _check(key: str, value: Any, allowed: Range) -> None:
    """Refuse a number that is not in a range, or a list with one; None is always allowed."""
    wrong = [one for one in _each(value) if one is not None and not allowed.holds(one)]
    if wrong:
        words = "a finite number" if isinf(wrong[0]) and wrong[0] > 0 else allowed.words
        raise ConfigError(f"{key} is {value}; {words} is needed.")


def _each(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _check_augmentation(cfg: CfgNode) -> None:
    """Check what detectron2's augmentations assert."""
    check_one_of(cfg, "INPUT.RANDOM_FLIP", ("horizontal", "vertical", "none"))
    check_one_of(cfg, "INPUT.MIN_SIZE_TRAIN_SAMPLING", ("choice", "range"))
    sizes = list(cfg.INPUT.MIN_SIZE_TRAIN)
    is_pair = len(sizes) == 2 and sizes[0] <= sizes[1]
    if cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING == "range" and not is_pair:
        raise ConfigError(
            f"INPUT.MIN_SIZE_TRAIN is {sizes} with INPUT.MIN_SIZE_TRAIN_SAMPLING range, which "
            "takes the smallest and the greatest size, for instance (640, 800). Give these two, or "
            "set INPUT.MIN_SIZE_TRAIN_SAMPLING choice."
        )
    low, high = cfg.INPUT.LSJ.MIN_SCALE, cfg.INPUT.LSJ.MAX_SCALE
    if low > high:
        raise ConfigError(
            f"INPUT.LSJ.MIN_SCALE is {low}, above INPUT.LSJ.MAX_SCALE, {high}: the lower one comes "
            "first. Exchange them."
        )
    padded = cfg.INPUT.SIZE_DIVISIBILITY
    if padded < 1 and padded != -1:
        raise ConfigError(
            f"INPUT.SIZE_DIVISIBILITY is {padded}; it must be a number of pixels, for instance 32, "
            "or -1 for no padding by the mapper."
        )
