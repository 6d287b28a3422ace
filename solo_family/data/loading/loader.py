"""Data loaders: for training, in an order that a resumed run continues, and for evaluation."""

import logging
from collections.abc import Callable
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetFromList, MapDataset, get_detection_dataset_dicts
from detectron2.data.build import filter_images_with_only_crowd_annotations
from detectron2.data.samplers import InferenceSampler
from detectron2.utils import comm

from ...config.caps import too_many_objects
from ...config.copy_paste import NO_OBJECTS
from ...errors import ConfigError
from ..formats.classes import dataset_classes, stuff_ids
from ..formats.joining import load_each
from ..formats.register import check_datasets
from .batch_loader import BatchLoader
from .copy_paste import CopyPaste, Objects
from .dataset_mapper import MaskDatasetMapper
from .sampler import GroupedSampler
from .segment_mapper import SegmentDatasetMapper
from .streams import stream_maker
from .training_images import TrainingImages

logger = logging.getLogger(__name__)

# Maps detectron2's dict of an image to the model's input; None asks for another image instead.
Mapper = Callable[[dict[str, Any]], dict[str, Any] | None]

# The labels that each mapper needs, as a key of detectron2's dict. An image that has both panoptic
# and semantic labels is mapped as panoptic.
_LABEL_KEYS = {
    "mask_former_panoptic": "pan_seg_file_name",
    "detr_panoptic": "pan_seg_file_name",
    "mask_former_semantic": "sem_seg_file_name",
}


def build_train_loader(
    cfg: CfgNode, mapper: Mapper | None = None
) -> tuple[BatchLoader, GroupedSampler]:
    """Build the loader of `DATASETS.TRAIN`, and its sampler.

    Args:
        cfg: the configuration.
        mapper: maps an image's dict to the model's input; by default `build_train_mapper`'s.

    Returns:
        The loader, and the sampler in it, whose position a resumed run sets.

    Raises:
        ConfigError: `SOLVER.IMS_PER_BATCH` is not a multiple of the number of processes, times
            `SOLVER.ACCUMULATE`, or `DATALOADER.SAMPLER_TRAIN` can't be used.
        DataError: see `load_train_dicts`.
    """
    share, rest = divmod(cfg.SOLVER.IMS_PER_BATCH, comm.get_world_size())
    if rest or not share:
        raise ConfigError(
            f"SOLVER.IMS_PER_BATCH is {cfg.SOLVER.IMS_PER_BATCH}; it must be a multiple of the "
            f"number of processes, {comm.get_world_size()}."
        )
    if share % cfg.SOLVER.ACCUMULATE:
        raise ConfigError(
            f"SOLVER.ACCUMULATE is {cfg.SOLVER.ACCUMULATE}, but each of {comm.get_world_size()} "
            f"processes has {share} images of a batch; it must be a divisor of that."
        )
    datasets = _load_by_name(cfg)
    dataset = [record for records in datasets.values() for record in records]
    _warn_of_crowds(cfg, dataset)
    sampler = GroupedSampler(
        stream_maker(cfg, datasets),
        dataset,
        cfg.SOLVER.IMS_PER_BATCH,
        seed=cfg.SEED if cfg.SEED >= 0 else comm.shared_random_seed(),
        rank=comm.get_rank(),
        world_size=comm.get_world_size(),
        # Dicts of detectron2's built-in semantic datasets lack the size of their images.
        grouped=cfg.DATALOADER.ASPECT_RATIO_GROUPING and all("width" in item for item in dataset),
    )
    loader = BatchLoader(
        TrainingImages(
            dataset,
            mapper or build_train_mapper(cfg, dataset),
            _build_copy_paste(cfg, dataset, mapper),
        ),
        sampler,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        timeout=cfg.DATALOADER.TIMEOUT,
    )
    return loader, sampler


def build_test_loader(cfg: CfgNode, name: str) -> BatchLoader:
    """Build the evaluation loader of a dataset: batches of one image, divided among processes."""
    check_datasets([name])
    records = get_detection_dataset_dicts(name, filter_empty=False)
    # With tiles the model reads the files itself, in parts.
    mapper = dict if cfg.TEST.TILE.SIZE else MaskDatasetMapper(cfg, is_train=False)
    return BatchLoader(
        MapDataset(DatasetFromList(records, copy=False), mapper),
        [[index] for index in InferenceSampler(len(records))],
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        timeout=cfg.DATALOADER.TIMEOUT,
    )


def build_train_mapper(cfg: CfgNode, dataset: list[dict[str, Any]]) -> Mapper:
    """Return the training mapper that `INPUT.DATASET_MAPPER_NAME` names.

    If it is '', the labels of the dataset decide: panoptic, semantic, or instances.

    Raises:
        ConfigError: the mapper needs labels that the dataset does not have.
    """
    num_images = len(dataset)
    name = _mapper_name(cfg, dataset)
    if not name:
        return MaskDatasetMapper(cfg, is_train=True, num_images=num_images)
    if _LABEL_KEYS[name] not in dataset[0]:
        raise ConfigError(
            f"INPUT.DATASET_MAPPER_NAME {name} needs '{_LABEL_KEYS[name]}', which the images of "
            f"DATASETS.TRAIN {', '.join(cfg.DATASETS.TRAIN)} don't have. Set the key to '', or "
            "name a dataset with such labels."
        )
    return SegmentDatasetMapper(
        cfg,
        panoptic=name != "mask_former_semantic",
        detr=name == "detr_panoptic",
        num_images=num_images,
    )


def _mapper_name(cfg: CfgNode, dataset: list[dict[str, Any]]) -> str:
    """Return the name of the mapper of labels that are pictures; "" is that of instances."""
    given = cfg.INPUT.DATASET_MAPPER_NAME
    return given or next((name for name, key in _LABEL_KEYS.items() if key in dataset[0]), "")


def _build_copy_paste(
    cfg: CfgNode, dataset: list[dict[str, Any]], mapper: Mapper | None
) -> CopyPaste | None:
    """Return what `INPUT.COPY_PASTE` asks for; None if it is not enabled.

    Raises:
        ConfigError: the labels are semantic, which have no objects.
    """
    if not cfg.INPUT.COPY_PASTE.ENABLED:
        return None
    name = _mapper_name(cfg, dataset)
    if name == "mask_former_semantic":
        raise ConfigError(NO_OBJECTS)
    objects = Objects("annotations")
    if name:
        classes = dataset_classes(cfg.DATASETS.TRAIN[0]) or []
        objects = Objects("segments_info", stuff_ids(cfg, len(classes)))
    taken = mapper or build_train_mapper(_with_scales(cfg), dataset)
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


def load_train_dicts(cfg: CfgNode) -> list[dict[str, Any]]:
    """Return detectron2's dicts of `DATASETS.TRAIN`, without masks that can't be used.

    Raises:
        ConfigError: `DATASETS.TRAIN` is empty, or its datasets can't be combined (see
            `load_each`).
        DataError: a dataset can't be used (see `check_datasets`), or has nothing to learn.
    """
    return [record for records in _load_by_name(cfg).values() for record in records]


def _load_by_name(cfg: CfgNode) -> dict[str, list[dict[str, Any]]]:
    """Return these dicts by the name of their dataset; see `load_train_dicts`."""
    names = cfg.DATASETS.TRAIN
    if not names:
        raise ConfigError(
            "DATASETS.TRAIN is empty: name a dataset to train on, "
            "for instance \"('coco_json:ANNOTATIONS.json:IMAGE_DIR',)\"."
        )
    check_datasets(names)
    datasets = load_each(cfg)
    if not cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS:
        return datasets
    return {
        name: filter_images_with_only_crowd_annotations(records)
        if "annotations" in records[0]
        else records
        for name, records in datasets.items()
    }


def _warn_of_crowds(cfg: CfgNode, dataset: list[dict[str, Any]]) -> None:
    """Name the image with most objects if the model can't return as many."""
    if not comm.is_main_process():
        return
    counts = (
        (item["file_name"], sum(not object_.get("iscrowd") for object_ in item[key]))
        for item in dataset
        for key in ("annotations", "segments_info")
        if key in item
    )
    warning = too_many_objects(cfg, counts)
    if warning:
        logger.warning(warning)
