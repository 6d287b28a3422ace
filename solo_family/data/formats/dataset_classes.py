"""The classes of datasets, and which of one are which of another: by name, never by position.

K classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from detectron2.data import DatasetCatalog, Metadata, MetadataCatalog

from ...errors import ConfigError
from .register import register_in_place

_SEMANTIC = ("sem_seg", "cityscapes_sem_seg")
_NAMED = 30  # of many classes, as many are named


def dataset_classes(name: str) -> list[str] | None:
    """Return the names of a dataset's classes, or None where it has none or isn't there."""
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
    if metadata.get("evaluator_type") in _SEMANTIC:
        return metadata.get("stuff_classes")
    return metadata.get("thing_classes") or metadata.get("stuff_classes")


def dataset_class_ids(name: str) -> dict[str, int]:
    """Return a dataset's ids of its classes by their names; nothing where it has no such ids."""
    names = dataset_classes(name)
    metadata = MetadataCatalog.get(name)
    if names is None or metadata.get("evaluator_type") in _SEMANTIC:
        return {}
    indices: dict[int, int] = {}
    for kind in ("thing", "stuff"):
        indices |= metadata.get(f"{kind}_dataset_id_to_contiguous_id") or {}
    return {names[index]: identity for identity, index in indices.items() if index < len(names)}


def listed(names: Sequence[str]) -> str:
    """Return names for a message."""
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")


def places(names: Sequence[str], among: Sequence[str]) -> list[int] | None:
    """Return where each of the names stands among the others; None where one doesn't."""
    index = {name: place for place, name in enumerate(among)}
    return [index[name] for name in names] if set(names) <= index.keys() else None


@dataclass(frozen=True)
class JoinedClasses:
    """The classes of several datasets.

    Attributes:
        names: K.
        ids: K, of the dataset that has a class first; a number that is free where another class
            has it. Empty where the datasets have no ids.
        places: for each dataset, where its classes stand among these.
    """

    names: list[str]
    ids: list[int]
    places: dict[str, list[int]]


def join_classes(datasets: Sequence[str], union: bool) -> JoinedClasses | None:
    """Join the classes of datasets by their names, in the order of the first.

    Args:
        datasets: names of `DATASETS.TRAIN`.
        union: of `DATASETS.CLASS_UNION`.

    Returns:
        None where the first names no classes.

    Raises:
        ConfigError: another one has other classes, and no union is asked for; or its labels are
            pictures, whose values can't be mapped.
    """
    classes = {name: dataset_classes(name) for name in datasets}
    first = classes[datasets[0]] if datasets else None
    if first is None:
        return None
    names, ids = list(first), dict(dataset_class_ids(datasets[0]))
    found: dict[str, list[int]] = {}
    for name, given in classes.items():
        if given is None:
            continue
        _check_joinable(datasets[0], first, name, given, union)
        own = dataset_class_ids(name)
        for label in given:
            if label in names:
                continue
            names.append(label)
            wanted = own.get(label, len(ids))
            ids[label] = wanted if wanted not in ids.values() else max(ids.values()) + 1
        found[name] = [names.index(label) for label in given]
    complete = len(ids) == len(names)
    return JoinedClasses(names, [ids[label] for label in names] if complete else [], found)


def _check_joinable(
    first: str, names: Sequence[str], other: str, given: Sequence[str], union: bool
) -> None:
    if list(given) == list(names):
        return
    same = set(given) == set(names)
    kinds = {MetadataCatalog.get(name).get("evaluator_type") for name in (first, other)}
    values = any(kind in _SEMANTIC for kind in kinds)
    if same and not values:
        return
    stated = (
        f"Datasets {first!r} and {other!r} of DATASETS.TRAIN have different classes: "
        f"{listed(names)}; and {listed(given)}."
    )
    if values or any("panoptic" in str(kind) for kind in kinds):
        raise ConfigError(
            f"{stated} Labels that are pictures are not joined: give both the same classes in the "
            "same order, or train on one of them."
        )
    if not union:
        raise ConfigError(
            f"{stated} Give both the same names, or set DATASETS.CLASS_UNION True to train on the "
            "classes of all of them."
        )


def match_classes(model: Sequence[str], dataset: str) -> list[int] | None:
    """Find a model's classes in a dataset by their names.

    Args:
        model: names, K; none are matched by their ids, that is their order.
        dataset: a registered name.

    Returns:
        The dataset's class of each of the model's; None where they are the same, or unnamed.

    Raises:
        ConfigError: the names are others.
    """
    given = dataset_classes(dataset)
    if not model or given is None or list(model) == list(given):
        return None
    if set(model) != set(given):
        remedy = "Write the same names into the dataset"
        if len(model) == len(given):
            quoted = ",".join(f"'{name}'" for name in given)
            remedy += (
                ", or, if they are these classes under other names in the same order, evaluate "
                f'with MODEL.CLASS_NAMES "[{quoted}]"'
            )
        raise ConfigError(
            f"The model has the classes {listed(model)} ({len(model)}), but dataset {dataset!r} "
            f"has {listed(given)} ({len(given)}). {remedy}."
        )
    return places(model, given)
