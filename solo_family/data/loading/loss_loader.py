"""The loader for losses on validation images: ground truth as in training, without augmentation."""

from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.utils import comm

from ...errors import ConfigError
from ..formats.dataset_classes import match_classes
from ..formats.joining import with_classes_at
from ..formats.own_records import READ_HERE, dataset_records
from ..formats.register import check_datasets
from ..formats.unusable import drop_unusable
from .batch_loader import BatchLoader
from .mappers import LABEL_KEYS, build_train_mapper, mapper_name
from .sampler import Draw
from .training_images import TrainingImages


def build_loss_loader(cfg: CfgNode, name: str) -> BatchLoader:
    """Build the loader for the losses on a dataset.

    Images have the size of inference. A batch has as many as one process has at once in training,
    of one orientation if `DATALOADER.ASPECT_RATIO_GROUPING`; batches are divided among processes.

    Args:
        cfg: the configuration, with the names of the model's classes.
        name: one of `DATASETS.TEST`.

    Raises:
        ConfigError: the dataset has no labels of the kind that training has, or other classes.
        DataError: the dataset can't be used.
    """
    records, kind = _labelled(cfg, name)
    wide = [item.get("width", 0) > item.get("height", 0) for item in records]
    draws = [Draw(index, index, seed=0) for index in range(len(records))]
    if cfg.DATALOADER.ASPECT_RATIO_GROUPING:
        draws.sort(key=lambda draw: wide[draw.index])
    world_size = comm.get_world_size()
    size = max(1, cfg.SOLVER.IMS_PER_BATCH // world_size // cfg.SOLVER.ACCUMULATE)
    batches = [draws[first : first + size] for first in range(0, len(draws), size)]
    mapper = build_train_mapper(_without_augmentation(cfg, name, kind), records)
    return BatchLoader(
        TrainingImages(records, mapper),
        batches[comm.get_rank() :: world_size],
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        timeout=cfg.DATALOADER.TIMEOUT,
    )


def _labelled(cfg: CfgNode, name: str) -> tuple[list[dict[str, Any]], str]:
    """Return a dataset's dicts with the model's classes, and the name of the mapper."""
    check_datasets([name, *cfg.DATASETS.TRAIN])
    kind = mapper_name(cfg, DatasetCatalog.get(cfg.DATASETS.TRAIN[0]))
    key = LABEL_KEYS.get(kind, "annotations")
    records = dataset_records(name)
    # The dataset's index of each of the model's classes.
    order = match_classes(cfg.MODEL.CLASS_NAMES, name)
    # Own dicts without labels are read as images without objects.
    labelled = any(record.get(key) for record in records)
    if not labelled or (order and key == "sem_seg_file_name"):
        raise ConfigError(
            f"TEST.EVAL_LOSS is True, but dataset {name!r} has no images with the kind of labels "
            f"that DATASETS.TRAIN has ({key}, with classes in the same order where they are "
            "pictures). Set TEST.EVAL_LOSS False, or name another dataset in DATASETS.TEST."
        )
    if name not in READ_HERE:
        drop_unusable(records, name)
    places = [order.index(place) for place in range(len(order))] if order else None
    return with_classes_at(records, places), kind


def _without_augmentation(cfg: CfgNode, name: str, kind: str) -> CfgNode:
    """Return a configuration whose training mapper leaves images as they are at inference."""
    plain = cfg.clone()
    plain.defrost()
    plain.DATASETS.TRAIN = (name,)
    given = plain.INPUT
    given.DATASET_MAPPER_NAME = kind
    given.MIN_SIZE_TRAIN, given.MAX_SIZE_TRAIN = (given.MIN_SIZE_TEST,), given.MAX_SIZE_TEST
    given.REDUCED_JPEG = False
    given.RANDOM_FLIP, given.COLOR_AUG_SSD, given.CROP.AROUND_OBJECTS = "none", False, ()
    for node in (given.CROP, given.LSJ, given.COLOR_AUG, given.COPY_PASTE):
        node.ENABLED = False
    return plain
