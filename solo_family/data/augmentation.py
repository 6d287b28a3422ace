"""The augmentations of training, as detectron2 transforms."""

from detectron2.config import CfgNode
from detectron2.data import transforms as T
from detectron2.data.detection_utils import build_augmentation

_Augmentations = list[T.Augmentation | T.Transform]


def build_train_augmentation(cfg: CfgNode) -> _Augmentations:
    """Returns colours, then large-scale jitter where it is on, else detectron2's augmentations."""
    colours = _colours(cfg) if cfg.INPUT.COLOR_AUG.ENABLED else []
    if cfg.INPUT.LSJ.ENABLED:
        return [*colours, *_large_scale_jitter(cfg)]
    augmentations = build_augmentation(cfg, is_train=True)
    if cfg.INPUT.CROP.ENABLED:
        augmentations.insert(0, T.RandomCrop(cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE))
    return [*colours, *augmentations]


def _colours(cfg: CfgNode) -> _Augmentations:
    colour = cfg.INPUT.COLOR_AUG
    return [
        augmentation(1 - half_width, 1 + half_width)
        for augmentation, half_width in (
            (T.RandomBrightness, colour.BRIGHTNESS),
            (T.RandomContrast, colour.CONTRAST),
            (T.RandomSaturation, colour.SATURATION),
        )
        if half_width
    ]


def _large_scale_jitter(cfg: CfgNode) -> _Augmentations:
    lsj = cfg.INPUT.LSJ
    size = (lsj.IMAGE_SIZE, lsj.IMAGE_SIZE)
    jitter: _Augmentations = [
        T.ResizeScale(lsj.MIN_SCALE, lsj.MAX_SCALE, *size),
        T.FixedSizeCrop(crop_size=size),
    ]
    if cfg.INPUT.RANDOM_FLIP != "none":
        jitter.append(
            T.RandomFlip(
                horizontal=cfg.INPUT.RANDOM_FLIP == "horizontal",
                vertical=cfg.INPUT.RANDOM_FLIP == "vertical",
            )
        )
    return jitter
