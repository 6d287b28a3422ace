"""The augmentations of training, as detectron2 transforms."""

from detectron2.config import CfgNode
from detectron2.data import transforms as T
from detectron2.data.detection_utils import build_augmentation

from ..methods import METHODS

_Augmentations = list[T.Augmentation | T.Transform]


def build_train_augmentation(cfg: CfgNode) -> _Augmentations:
    """Returns colours, then large-scale jitter where it is on, else detectron2's augmentations."""
    colours = _colours(cfg) if cfg.INPUT.COLOR_AUG.ENABLED else []
    if cfg.INPUT.LSJ.ENABLED:
        return [*colours, *_large_scale_jitter(cfg)]
    crop = [_crop(cfg)] if cfg.INPUT.CROP.ENABLED else []
    return [*colours, *crop, *build_augmentation(cfg, is_train=True)]


def _crop(cfg: CfgNode) -> T.Augmentation:
    """Returns a crop of every image, or, with short edges, DETR's (arXiv 2005.12872, section 4)."""
    crop = T.RandomCrop(cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE)
    method = METHODS.get(cfg.MODEL.META_ARCHITECTURE)
    edges = cfg.INPUT.CROP.SHORT_EDGES or (method.crop_short_edges if method else ())
    if not edges:
        return crop
    resize = T.ResizeShortestEdge(edges, sample_style="choice")
    return T.RandomApply(T.AugmentationList([resize, crop]), prob=0.5)


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
