"""Data loaders: for training, in an order that a resumed run continues, and for evaluation."""

import logging
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetFromList, MapDataset, MetadataCatalog
from detectron2.data.build import (
    filter_images_with_only_crowd_annotations,
    print_instances_class_histogram,
)
from detectron2.data.samplers import InferenceSampler
from detectron2.utils import comm

from ...config.caps import too_many_objects
from ...errors import ConfigError, DataError
from ..formats.joining import load_each
from ..formats.own_records import dataset_records
from ..formats.register import check_datasets
from .batch_loader import BatchLoader
from .dataset_mapper import MaskDatasetMapper
from .image_cache import build_cache
from .mappers import Mapper, build_copy_paste, build_train_mapper
from .sampler import GroupedSampler
from .streams import stream_maker
from .training_images import TrainingImages

logger = logging.getLogger(__name__)


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
    datasets = load_train_dicts(cfg)
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
    cache = build_cache(cfg, dataset)
    loader = BatchLoader(
        TrainingImages(
            dataset,
            mapper or build_train_mapper(cfg, dataset, cache),
            build_copy_paste(cfg, dataset, mapper, cache),
        ),
        sampler,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        timeout=cfg.DATALOADER.TIMEOUT,
    )
    return loader, sampler


def build_test_loader(cfg: CfgNode, name: str) -> BatchLoader:
    """Build the evaluation loader of a dataset: batches of one image, divided among processes."""
    check_datasets([name])
    records = dataset_records(name)
    if not records:
        raise DataError(
            f"Dataset {name!r} of DATASETS.TEST has no images. Name a dataset that has some."
        )
    names = MetadataCatalog.get(name).get("thing_classes")
    if names and any(record.get("annotations") for record in records):
        print_instances_class_histogram(records, names)
    # With tiles the model reads the files itself, in parts.
    mapper = dict if cfg.TEST.TILE.SIZE else MaskDatasetMapper(cfg, is_train=False)
    return BatchLoader(
        MapDataset(DatasetFromList(records, copy=False), mapper),
        [[index] for index in InferenceSampler(len(records))],
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        timeout=cfg.DATALOADER.TIMEOUT,
    )


def load_train_dicts(cfg: CfgNode) -> dict[str, list[dict[str, Any]]]:
    """Return detectron2's dicts of `DATASETS.TRAIN`, without masks that can't be used, by name.

    Raises:
        ConfigError: `DATASETS.TRAIN` is empty, or its datasets can't be combined (see
            `load_each`).
        DataError: a dataset can't be used (see `check_datasets`), or has nothing to learn.
    """
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
