"""Read the datasets of a recipe, whatever their labels are."""

from collections.abc import Iterable

from ..data.checks.findings import Findings
from ..data.checks.relations import check_splits
from ..data.formats.dataset_classes import match_classes
from ..data.formats.register import check_datasets
from ..data.loading.images import Reading
from ..errors import ConfigError, DataError
from ..registry import METHODS
from .data import INSTANCE, Dataset, evaluator_of, read_dataset
from .label_data import PANOPTIC, SEMANTIC, LabelDataset, read_label_dataset, task_of_labels

AnyDataset = Dataset | LabelDataset

# The methods that learn labels if no other is asked for.
_DEFAULT_METHODS = {INSTANCE: "SOLOv2", SEMANTIC: "MaskFormer", PANOPTIC: "MaskFormer"}
# Methods with proposals have no classes, and learn instances too.
_SERVES = {INSTANCE: ("instance", "proposals"), SEMANTIC: ("semantic",), PANOPTIC: ("panoptic",)}


def read_any(name: str, reading: Reading) -> AnyDataset:
    """Read and check a dataset.

    Args:
        name: as configs name it.
        reading: how its image files are read.

    Raises:
        DataError: it can't be read, or has labels that no recipe is for.
    """
    task = task_of(name)
    if task == INSTANCE:
        return read_dataset(name, reading)
    return read_label_dataset(name, task, reading=reading)


def task_of(name: str) -> str:
    """Return which labels a dataset has; its images need not be read for that.

    Args:
        name: as configs name it.

    Raises:
        DataError: it can't be found, or has labels that no recipe is for.
    """
    kind = evaluator_of(name)
    if kind == "coco":
        return INSTANCE
    check_datasets([name])
    task = task_of_labels(name)
    if not task:
        raise DataError(
            f"{name}: recipes are for datasets of instances with COCO's metrics, of semantic "
            f"labels or of panoptic segments, but this one has the evaluator_type {kind!r}. Name "
            "its files in place (docs/datasets.md)."
        )
    return task


def methods_for(task: str) -> list[str]:
    """Return the methods that learn a kind of labels, by their names in `MODEL.META_ARCHITECTURE`.

    The first is the one to take unless another is asked for.
    """
    able = [
        name
        for name, method in METHODS.items()
        if not method.parent and set(method.tasks) & set(_SERVES[task])
    ]
    return sorted(able, key=lambda name: name != _DEFAULT_METHODS[task])


def check_both(train: AnyDataset, val: AnyDataset, method: str) -> Findings:
    """Return what is wrong between training and validation.

    Args:
        train: the dataset to learn from.
        val: the dataset to measure on.
        method: the name in `MODEL.META_ARCHITECTURE`.

    Raises:
        ConfigError: their labels are of different kinds, or pictures of different classes.
    """
    if train.task != val.task:
        raise ConfigError(
            f"--val {val.name} has labels for {val.task} segmentation, and --train for "
            f"{train.task} segmentation. Name two datasets of one kind."
        )
    if train.task != INSTANCE:
        match_classes(train.classes, val.name)
    with_classes = not METHODS[method].classify_key
    return check_splits({train.name: train.check}, {val.name: val.check}, with_classes)


def listed(methods: Iterable[str]) -> str:
    """Return the names of methods as users write them."""
    return ", ".join(method.lower() for method in methods)
