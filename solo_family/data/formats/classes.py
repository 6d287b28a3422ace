"""The classes of the model: their number, names and ids, from the configuration or a dataset."""

import contextlib
import logging
from collections.abc import Sequence

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog

from ...config.rules import get_key
from ...errors import ConfigError, DataError, first_of
from ...registry import METHODS
from .dataset_classes import (
    dataset_class_ids,
    dataset_classes,
    join_classes,
    listed,
    match_classes,
)

logger = logging.getLogger(__name__)

# The name of the single class of a class-agnostic model.
_OBJECT = "object"


def is_class_agnostic(cfg: CfgNode) -> bool:
    """Return whether the model predicts a single class, whatever classes its datasets have."""
    method = METHODS.get(cfg.MODEL.META_ARCHITECTURE)
    return bool(method and method.classify_key and not get_key(cfg, method.classify_key))


def num_classes(cfg: CfgNode, key: str) -> int:
    """Return the number of classes of a model; 1 if it is class-agnostic.

    Args:
        cfg: the configuration.
        key: the method's key for the class count, for instance "MODEL.SOLOV2.NUM_CLASSES". If its
            value is 0, the classes of `DATASETS.TRAIN` are counted or, if that is empty, those of
            the first of `DATASETS.TEST`.

    Raises:
        ConfigError: the count differs from the dataset's, or is 0 and no dataset has class names.
        DataError: the dataset is named in place and can't be read, and the configuration does not
            name the classes.
    """
    if is_class_agnostic(cfg):
        return 1
    count = get_key(cfg, key)
    name = _dataset_name(cfg)
    try:
        names: Sequence[str] | None = _dataset_classes(cfg)
    except DataError:
        # The config of a trained model names the classes, so its dataset may be missing here.
        if not cfg.MODEL.CLASS_NAMES:
            raise
        names = cfg.MODEL.CLASS_NAMES
    if names is None:
        if count:
            return count
        raise ConfigError(
            f"{key} is 0, which takes the class count from the dataset, but "
            + (f"dataset {name!r} has no class names." if name else "no dataset is named.")
            + f" Set {key} to the number of classes."
        )
    if count and count != len(names):
        raise ConfigError(
            f"{key} is {count}, but dataset {name!r} has {len(names)} classes "
            f"({first_of(names, 4)}). "
            f"Set {key} {len(names)}, or 0 to take the count from the dataset."
        )
    return len(names)


def check_classes(cfg: CfgNode, train: Sequence[str], count: int) -> None:
    """Check that the datasets have the classes of the model.

    Args:
        cfg: the configuration; each of its `DATASETS.TEST` must have the model's class names, in
            any order.
        train: names of the training datasets, whose classes are joined by name.
        count: number of classes of the model.

    Raises:
        ConfigError: the classes differ; the message names the dataset, its classes, and the
            model's.
    """
    joined = join_classes(train, cfg.DATASETS.CLASS_UNION)
    model = joined.names if joined else list(cfg.MODEL.CLASS_NAMES)
    for name in cfg.DATASETS.TEST:
        given = dataset_classes(name)
        if given is not None and not model and len(given) != count:
            raise ConfigError(
                f"The model has {count} classes, without names, but dataset {name!r} has "
                f"{len(given)}: {listed(given)}. Name a dataset with {count} classes, or the "
                "config and weights of a model for the classes of this dataset."
            )
        match_classes(model, name)
        if given is not None and not model:
            logger.info(
                "The model's classes have no names, so they are matched to the classes of dataset "
                "%r in the order of their ids (%s).",
                name,
                listed(given),
            )


def stuff_ids(cfg: CfgNode, count: int) -> tuple[int, ...]:
    """Return the indices of the stuff classes, as training stored them or as the dataset has them.

    Args:
        cfg: the configuration.
        count: number of classes of the model.

    Returns:
        Indices from 0 to `count` - 1; empty if the dataset does not distinguish things and stuff.
    """
    if cfg.MODEL.STUFF_IDS:
        return tuple(cfg.MODEL.STUFF_IDS)
    name = _dataset_name(cfg)
    metadata = MetadataCatalog.get(name) if name and dataset_classes(name) else None
    if metadata is None or metadata.get("stuff_classes") is None:
        return ()
    things = set(metadata.get("thing_dataset_id_to_contiguous_id", {}).values())
    return tuple(index for index in range(count) if index not in things)


def class_names(cfg: CfgNode) -> list[str]:
    """Return the model's class names, as training stored them or as the dataset has them."""
    if is_class_agnostic(cfg):
        return [_OBJECT]
    if cfg.MODEL.CLASS_NAMES:
        return list(cfg.MODEL.CLASS_NAMES)
    return list(_dataset_classes(cfg) or [])


def with_classes(cfg: CfgNode) -> CfgNode:
    """Return the configuration with the names and ids of the training set's classes filled in."""
    if is_class_agnostic(cfg) or cfg.MODEL.CLASS_NAMES or not cfg.DATASETS.TRAIN:
        return cfg
    stored = cfg.clone()
    stored.defrost()
    stored.MODEL.CLASS_NAMES = class_names(cfg)
    stored.MODEL.CLASS_IDS = class_ids(cfg)
    if cfg.is_frozen():
        stored.freeze()
    return stored


def class_ids(cfg: CfgNode) -> list[int]:
    """Return the dataset's ids of the model's classes; empty if they are unknown."""
    if is_class_agnostic(cfg):
        return []
    if cfg.MODEL.CLASS_IDS:
        return list(cfg.MODEL.CLASS_IDS)
    names = class_names(cfg)
    joined = join_classes(_present(cfg.DATASETS.TRAIN), cfg.DATASETS.CLASS_UNION)
    if joined is not None and joined.names == names:
        return joined.ids
    for dataset in _present((*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST)):
        ids = dataset_class_ids(dataset)
        if names and set(names) <= ids.keys():
            return [ids[name] for name in names]
    return []


def _present(datasets: Sequence[str]) -> list[str]:
    """Return the names of those datasets that can be read on this machine."""
    found = []
    for name in datasets:
        with contextlib.suppress(DataError):
            if dataset_classes(name) is not None:
                found.append(name)
    return found


def _dataset_classes(cfg: CfgNode) -> list[str] | None:
    """Return the joined classes of `DATASETS.TRAIN`; if it is empty, the first test dataset's."""
    if cfg.DATASETS.TRAIN:
        joined = join_classes(cfg.DATASETS.TRAIN, cfg.DATASETS.CLASS_UNION)
        return joined.names if joined else None
    return dataset_classes(cfg.DATASETS.TEST[0]) if cfg.DATASETS.TEST else None


def _dataset_name(cfg: CfgNode) -> str:
    return (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST, "")[0]
