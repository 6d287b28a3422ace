"""The classes of datasets, matched between datasets by their names and never by their order.

Shape letters: K classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from detectron2.data import DatasetCatalog, Metadata, MetadataCatalog

from ...errors import ConfigError, first_of
from .register import register_in_place

_SEMANTIC = ("sem_seg", "cityscapes_sem_seg")
_NAMED = 30  # class names in a message, at most


def dataset_classes(name: str) -> list[str] | None:
    """Return a dataset's class names; None if it has none, or is not on this machine."""
    register_in_place([name])
    metadata = MetadataCatalog.get(name)
    if _named_classes(metadata) is None and name in DatasetCatalog.list():
        try:
            DatasetCatalog.get(name)  # reading a COCO-format dataset sets its class names
        except FileNotFoundError:
            return None
    return _named_classes(metadata)


def _named_classes(metadata: Metadata) -> list[str] | None:
    # Panoptic datasets have all classes in both lists, and semantic ones in the second; Cityscapes'
    # first list has the classes of its instances.
    if metadata.get("evaluator_type") in _SEMANTIC:
        return metadata.get("stuff_classes")
    return metadata.get("thing_classes") or metadata.get("stuff_classes")


def dataset_class_ids(name: str) -> dict[str, int]:
    """Return a dataset's ids of its classes, by their names; empty if it has no ids."""
    names = dataset_classes(name)
    metadata = MetadataCatalog.get(name)
    if names is None or metadata.get("evaluator_type") in _SEMANTIC:
        return {}
    indices: dict[int, int] = {}
    for kind in ("thing", "stuff"):
        indices |= metadata.get(f"{kind}_dataset_id_to_contiguous_id") or {}
    return {names[index]: identity for identity, index in indices.items() if index < len(names)}


def listed(names: Sequence[str]) -> str:
    """Return names as text for a message, of which only the first ones are listed."""
    return first_of(names, _NAMED)


def without_blanks(names: Sequence[str]) -> list[str]:
    """Return names without blanks at their ends, as datasets are read, unless two would be one.

    Models that were trained before datasets were read so have them.
    """
    stripped = [name.strip() for name in names]
    return stripped if len(set(stripped)) == len(set(names)) else list(names)


def places(names: Sequence[str], among: Sequence[str]) -> list[int] | None:
    """Return the index of each of the names in `among`; None if one is not in it."""
    index = {name: place for place, name in enumerate(among)}
    return [index[name] for name in names] if set(names) <= index.keys() else None


@dataclass(frozen=True)
class JoinedClasses:
    """The classes of several datasets.

    Attributes:
        names: K names.
        ids: K ids: each from the first dataset that has the class, or a free number if another
            class has that id already. Empty if the datasets have no ids.
        places: maps the name of a dataset to the index in `names` of each of its classes.
    """

    names: list[str]
    ids: list[int]
    places: dict[str, list[int]]


def join_classes(datasets: Sequence[str], union: bool) -> JoinedClasses | None:
    """Join the classes of datasets by their names, in the order of the first.

    Args:
        datasets: the names in `DATASETS.TRAIN`.
        union: `DATASETS.CLASS_UNION`: whether datasets may have different classes.

    Returns:
        The joined classes; None if the first dataset has no class names.

    Raises:
        ConfigError: a dataset has other classes than the first, and `union` is False or the labels
            are images, whose values can't be mapped.
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
            f"{stated} Labels that are images can't be joined: give both datasets the same classes "
            "in the same order, or train on one of them."
        )
    if not union:
        raise ConfigError(
            f"{stated} Give both datasets the same class names, or set DATASETS.CLASS_UNION True "
            "to train on the classes of all datasets."
        )


def match_classes(model: Sequence[str], dataset: str) -> list[int] | None:
    """Match a model's classes to a dataset's, by their names.

    Args:
        model: the K names of the model's classes; if it is empty, classes keep their order.
        dataset: name of a registered dataset.

    Returns:
        The dataset's index of each of the model's classes; None if both have the same order or one
        has no names.

    Raises:
        ConfigError: the model and the dataset have different classes.
    """
    given = dataset_classes(dataset)
    if given is not None and set(model) != set(given):
        model = without_blanks(model)
    if not model or given is None or list(model) == list(given):
        return None
    if set(model) != set(given):
        remedy = "Give the dataset the same class names"
        if len(model) == len(given):
            quoted = ",".join(f"'{name}'" for name in given)
            remedy += (
                ", or, if these are the same classes in the same order under other names, evaluate "
                f'with MODEL.CLASS_NAMES "[{quoted}]"'
            )
        raise ConfigError(
            f"The model has the classes {listed(model)} ({len(model)}), but dataset {dataset!r} "
            f"has {listed(given)} ({len(given)}). {remedy}."
        )
    return places(model, given)
