"""What evaluations of a run will need, looked at before its first iteration."""

from collections.abc import Sequence
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.utils import comm

from ..data.formats.register import check_datasets
from ..errors import ConfigError, DataError
from .best_metric import best_metric
from .build import kinds_of, kinds_of_dataset
from .kinds import Kind


def check_evaluation(cfg: CfgNode) -> str:
    """Check that each of `DATASETS.TEST` can be evaluated with the model, and the best metric.

    Returns:
        The metric that `TEST.BEST_METRIC` means; "" for none.

    Raises:
        ConfigError: a dataset's labels are for another task, or `TEST.BEST_METRIC` is none of the
            metrics.
        DataError: a package or ground truth is missing.
    """
    check_datasets(cfg.DATASETS.TEST)
    for name in cfg.DATASETS.TEST:
        kinds_of(cfg, name)
        check_truth(name)
    return best_metric(cfg)


def instance_kind(name: str) -> Kind:
    """Return how instances of a registered dataset are evaluated, after its truth is checked.

    Raises:
        ConfigError: it has no instances.
        DataError: see `check_truth`.
    """
    kinds = [kind for kind in kinds_of_dataset(name) if kind.task == "instance"]
    if not kinds:
        raise ConfigError(
            f"Dataset {name!r} has no instances, but labels of every pixel. Name a dataset of "
            "instances, for instance coco_json:ANNOTATIONS.json:IMAGE_DIR."
        )
    check_truth(name)
    return kinds[0]


def check_truth(name: str) -> None:
    """Check what only Cityscapes' own evaluator needs of a dataset; others are checked as data.

    Raises:
        ConfigError: several machines evaluate.
        DataError: ground truth is missing, or its classes are not Cityscapes'.
    """
    metadata = MetadataCatalog.get(name)
    if metadata.get("evaluator_type") != "cityscapes_instance":
        return
    if comm.get_local_size() != comm.get_world_size():
        raise ConfigError(
            f"Dataset {name!r}: Cityscapes' evaluator works on one machine only. Leave "
            "DATASETS.TEST empty, and evaluate afterwards with --eval-only on one machine."
        )
    if next(Path(metadata.gt_dir).glob("*/*_gtFine_instanceIds.png"), None) is None:
        raise DataError(
            f"Dataset {name!r} has no ground truth to evaluate with: there is no "
            f"*_gtFine_instanceIds.png in the folders of {metadata.gt_dir}. Make them with "
            "cityscapesscripts/preparation/createTrainIdInstanceImgs.py, or name a split that has "
            "them."
        )
    _check_cityscapes_classes(name, metadata.thing_classes)


def _check_cityscapes_classes(name: str, classes: Sequence[str]) -> None:
    from cityscapesscripts.helpers.labels import name2label

    others = [label for label in classes if label not in name2label]
    if others:
        raise DataError(
            f"Dataset {name!r} has the classes {', '.join(others)}, which Cityscapes' evaluator "
            f"does not know; it knows {', '.join(name2label)}. Name classes as these, or set "
            f"MetadataCatalog.get({name!r}).evaluator_type = 'coco'."
        )
