"""How many classes, and which: the one place where a class count is read."""

from collections.abc import Sequence

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, Metadata, MetadataCatalog

from ...config.rules import get_key
from ...errors import ConfigError, DataError
from ...registry import METHODS
from .register import register_in_place

# The one class of a method that does not tell classes apart.
_OBJECT = "object"


def is_class_agnostic(cfg: CfgNode) -> bool:
    """Returns whether the model does not tell classes apart, whatever classes its datasets have."""
    method = METHODS.get(cfg.MODEL.META_ARCHITECTURE)
    return bool(method and method.classify_key and not get_key(cfg, method.classify_key))


def num_classes(cfg: CfgNode, key: str) -> int:
    """Returns the class count of a model: 1 if it is class-agnostic.

    Args:
        cfg: the configuration.
        key: of the method's count, for instance "MODEL.SOLOV2.NUM_CLASSES". 0 takes the count from
            the first dataset of `DATASETS.TRAIN`, or, where there is none, of `DATASETS.TEST`.

    Raises:
        ConfigError: the count differs from the dataset's, or is 0 and the dataset can't be read.
        DataError: the dataset is named in place and can't be read, and is needed for the count.
    """
    if is_class_agnostic(cfg):
        return 1
    count = get_key(cfg, key)
    name = _dataset_name(cfg)
    try:
        names: Sequence[str] | None = dataset_classes(name) if name else None
    except DataError:
        # A trained model names its own classes: its dataset need not be on this machine.
        if not cfg.MODEL.CLASS_NAMES:
            raise
        names = cfg.MODEL.CLASS_NAMES
    if names is None:
        if count:
            return count
        raise ConfigError(
            f"{key} is 0, which takes the class count from the dataset, but "
            + (f"dataset {name!r} gives no class names." if name else "no dataset is named.")
            + f" Set {key} to the number of classes."
        )
    if count and count != len(names):
        raise ConfigError(
            f"{key} is {count}, but dataset {name!r} has {len(names)} classes "
            f"({', '.join(names[:4])}{', ...' if len(names) > 4 else ''}). "
            f"Set {key} {len(names)}, or 0 to take the count from the dataset."
        )
    return len(names)


def check_same_classes(names: Sequence[str], count: int, *, same_names: bool = False) -> None:
    """Refuses datasets whose classes are not those of the model.

    Args:
        names: of datasets; those that give no class names are not looked at.
        count: classes of the model.
        same_names: their class names must be the first one's, too, in its order.

    Raises:
        ConfigError: names a dataset, what it has, and what it must have.
    """
    classes = {name: dataset_classes(name) for name in names}
    first = names[0] if names else ""
    for name, given in classes.items():
        if given is not None and len(given) != count:
            raise ConfigError(
                f"The model has {count} classes, but dataset {name!r} has {len(given)}. "
                "All of DATASETS.TRAIN and DATASETS.TEST must have the same categories."
            )
        if given is not None and same_names and given != classes[first]:
            raise ConfigError(
                f"Datasets {first!r} and {name!r} of DATASETS.TRAIN have different categories, or "
                "another order of their ids. They must be the same."
            )


def dataset_classes(name: str) -> list[str] | None:
    """Returns the names of a dataset's classes, or None where it has none or isn't there."""
    register_in_place([name])
    metadata = MetadataCatalog.get(name)
    if _named_classes(metadata) is None and name in DatasetCatalog.list():
        try:
            DatasetCatalog.get(name)  # COCO-format datasets name their classes when they are read
        except FileNotFoundError:
            return None
    return _named_classes(metadata)


def _named_classes(metadata: Metadata) -> list[str] | None:
    # Panoptic datasets name all classes in both lists, semantic ones in the second: Cityscapes has
    # the classes of its instances in the first.
    if metadata.get("evaluator_type") in ("sem_seg", "cityscapes_sem_seg"):
        return metadata.get("stuff_classes")
    return metadata.get("thing_classes") or metadata.get("stuff_classes")


def stuff_ids(cfg: CfgNode, count: int) -> tuple[int, ...]:
    """Returns which of a model's classes are stuff: the dataset's, or those that training stored.

    Args:
        cfg: the configuration.
        count: of classes. All of them are things where no dataset says otherwise.
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
    """Returns the names of the model's classes: the dataset's, or those that training stored."""
    if is_class_agnostic(cfg):
        return [_OBJECT]
    if cfg.MODEL.CLASS_NAMES:
        return list(cfg.MODEL.CLASS_NAMES)
    name = _dataset_name(cfg)
    return (dataset_classes(name) if name else None) or []


def _dataset_name(cfg: CfgNode) -> str:
    return (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST, "")[0]
