"""The augmentations of training, as detectron2 transforms."""

from detectron2.config import CfgNode
from detectron2.data import transforms as T
from detectron2.data.detection_utils import build_augmentation


def build_train_augmentation(cfg: CfgNode) -> list[T.Augmentation | T.Transform]:
    """Returns large-scale jitter where `INPUT.LSJ.ENABLED`, else detectron2's own augmentations."""
    lsj = cfg.INPUT.LSJ
    if not lsj.ENABLED:
        augmentations = build_augmentation(cfg, is_train=True)
        if cfg.INPUT.CROP.ENABLED:
            augmentations.insert(0, T.RandomCrop(cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE))
        return augmentations
    size = (lsj.IMAGE_SIZE, lsj.IMAGE_SIZE)
    jitter: list[T.Augmentation | T.Transform] = [
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
