"""Which mapper a configuration and the labels of its dataset ask for, and copy-paste beside it."""

import logging
from typing import Any

from detectron2.config import CfgNode

from ...config.copy_paste import NO_OBJECTS
from ...config.rules import get_key
from ...errors import ConfigError
from ..formats.classes import dataset_classes, stuff_ids
from .copy_paste import CopyPaste, Mapper, Objects
from .dataset_mapper import MaskDatasetMapper
from .image_cache import ImageCache
from .segment_mapper import SegmentDatasetMapper

# The labels that each mapper needs, as a key of detectron2's dict. An image that has both panoptic
# and semantic labels is mapped as panoptic.
LABEL_KEYS = {
    "mask_former_panoptic": "pan_seg_file_name",
    "detr_panoptic": "pan_seg_file_name",
    "mask_former_semantic": "sem_seg_file_name",
}


_AREA = "INPUT.CROP.SINGLE_CATEGORY_MAX_AREA"
# What only mappers of labels that are pictures read, with the values that do nothing.
_OF_PICTURES: dict[str, Any] = {
    "INPUT.SIZE_DIVISIBILITY": -1,
    _AREA: 1.0,
    "INPUT.EMPTY_SEGMENTS": "",
    "INPUT.LABEL_SAMPLING": "",
}

logger = logging.getLogger(__name__)


def build_train_mapper(
    cfg: CfgNode, dataset: list[dict[str, Any]], cache: ImageCache | None = None
) -> Mapper:
    """Return the training mapper that `INPUT.DATASET_MAPPER_NAME` names.

    If it is '', the labels of the dataset decide: panoptic, semantic, or instances.

    Args:
        cfg: the configuration.
        dataset: detectron2's dicts.
        cache: reads its images; None decodes them each time.

    Raises:
        ConfigError: the mapper needs labels that the dataset does not have, or `INPUT.REDUCED_JPEG`
            is for other labels.
    """
    num_images = len(dataset)
    name = mapper_name(cfg, dataset)
    _warn_of_unread(cfg, name)
    if not name:
        return MaskDatasetMapper(cfg, is_train=True, num_images=num_images, cache=cache)
    if LABEL_KEYS[name] not in dataset[0]:
        raise ConfigError(
            f"INPUT.DATASET_MAPPER_NAME {name} needs '{LABEL_KEYS[name]}', which the images of "
            f"DATASETS.TRAIN {', '.join(cfg.DATASETS.TRAIN)} don't have. Set the key to '', or "
            "name a dataset with such labels."
        )
    if cfg.INPUT.REDUCED_JPEG:
        raise ConfigError(
            "INPUT.REDUCED_JPEG is True, but the labels are pictures, which have the size of the "
            "whole images. Set INPUT.REDUCED_JPEG False."
        )
    return SegmentDatasetMapper(
        cfg,
        panoptic=name != "mask_former_semantic",
        detr=name == "detr_panoptic",
        num_images=num_images,
        cache=cache,
    )


def _warn_of_unread(cfg: CfgNode, name: str) -> None:
    """Warn of keys of other labels; files inherit some of them, so that they are not refused.

    Args:
        cfg: the configuration.
        name: see `mapper_name`.
    """
    if name and name != "detr_panoptic":
        return
    for key in (_AREA,) if name else tuple(_OF_PICTURES):
        value = get_key(cfg, key)
        if value != _OF_PICTURES[key]:
            instances = f"{key} is {value!r}, but does nothing with labels of instances."
            crops = f"{key} is {value!r}, but does nothing with the mapper {name}."
            logger.warning(crops if name else instances)


def mapper_name(cfg: CfgNode, dataset: list[dict[str, Any]]) -> str:
    """Return the name of the mapper of labels that are pictures; "" is that of instances."""
    given = cfg.INPUT.DATASET_MAPPER_NAME
    return given or next((name for name, key in LABEL_KEYS.items() if key in dataset[0]), "")


def build_copy_paste(
    cfg: CfgNode,
    dataset: list[dict[str, Any]],
    mapper: Mapper | None,
    cache: ImageCache | None = None,
) -> CopyPaste | None:
    """Return what `INPUT.COPY_PASTE` asks for; None if it is not enabled.

    Args:
        cfg: the configuration.
        dataset: detectron2's dicts.
        mapper: maps the images that objects are taken from; by default `build_train_mapper`'s.
        cache: see `build_train_mapper`.

    Raises:
        ConfigError: the labels are semantic, which have no objects.
    """
    if not cfg.INPUT.COPY_PASTE.ENABLED:
        return None
    name = mapper_name(cfg, dataset)
    if name == "mask_former_semantic":
        raise ConfigError(NO_OBJECTS)
    objects = Objects("annotations")
    if name:
        classes = dataset_classes(cfg.DATASETS.TRAIN[0]) or []
        objects = Objects("segments_info", stuff_ids(cfg, len(classes)))
    taken = mapper or build_train_mapper(_with_scales(cfg), dataset, cache)
    return CopyPaste.from_config(cfg, taken, objects, dataset)


def _with_scales(cfg: CfgNode) -> CfgNode:
    """Return the configuration of the images that copy-paste takes objects from."""
    low, high = cfg.INPUT.COPY_PASTE.SCALES
    scaled = cfg.clone()
    scaled.defrost()
    if high != 1 or low != 1:
        sizes = cfg.INPUT.MIN_SIZE_TRAIN
        scaled.INPUT.MIN_SIZE_TRAIN = (round(low * min(sizes)), round(high * max(sizes)))
        scaled.INPUT.MIN_SIZE_TRAIN_SAMPLING = "range"
        scaled.INPUT.MAX_SIZE_TRAIN = round(high * cfg.INPUT.MAX_SIZE_TRAIN)
    return scaled
