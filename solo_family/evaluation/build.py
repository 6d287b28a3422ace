"""Choose the evaluators of a dataset by the labels that it has, and by what the model predicts."""

from collections.abc import Sequence

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator, DatasetEvaluators

from ..config.caps import most_instances
from ..data.formats.classes import is_class_agnostic
from ..data.formats.dataset_classes import match_classes
from ..errors import ConfigError
from ..registry import METHODS, method_name
from .instance_results import InstanceEvaluator
from .kinds import KINDS, PROPOSALS, Kind
from .mapped_classes import MappedClasses
from .proposal_recall import ProposalRecallEvaluator


def build_evaluator(cfg: CfgNode, name: str, folder: str) -> DatasetEvaluator:
    """Return the evaluator of a dataset: detectron2's, or else this package's.

    Args:
        cfg: the configuration; `MODEL.MASK_FORMER.TEST` and `MODEL.SPARSE_INST.PANOPTIC_ON`
            determine what these methods predict.
        name: the name of a registered dataset.
        folder: where predictions are written.

    Raises:
        ConfigError: see `kinds_of`.
    """
    evaluators = [_evaluator(cfg, kind, name, folder) for kind in kinds_of(cfg, name)]
    evaluator = evaluators[0] if len(evaluators) == 1 else DatasetEvaluators(evaluators)
    return mapped(evaluator, [] if is_class_agnostic(cfg) else cfg.MODEL.CLASS_NAMES, name)


def _evaluator(cfg: CfgNode, kind: Kind, name: str, folder: str) -> DatasetEvaluator:
    if kind is PROPOSALS:
        # Recall is of as many masks as the model returns.
        return ProposalRecallEvaluator(name, folder, most_instances(cfg))
    evaluator = kind.build(name, folder)
    if isinstance(evaluator, InstanceEvaluator):
        evaluator.library = cfg.TEST.COCO_LIBRARY
    return evaluator


def kinds_of(cfg: CfgNode, name: str) -> list[Kind]:
    """Return how a dataset is evaluated with the model of a configuration.

    Raises:
        ConfigError: there is nothing to evaluate: the dataset's labels are for a task that the
            model does not perform; or its type is unknown.
    """
    predicted = predicted_tasks(cfg)
    of_dataset = kinds_of_dataset(name)
    kinds = [kind for kind in of_dataset if kind.task in predicted]
    has_objects = any(kind.task == "instance" for kind in of_dataset)
    if has_objects and (cfg.TEST.PROPOSAL_RECALL or "proposals" in predicted):
        kinds.insert(0, PROPOSALS)
    if not kinds:
        tasks = [kind.task for kind in of_dataset]
        raise ConfigError(
            f"Dataset {name!r} (evaluator {MetadataCatalog.get(name).get('evaluator_type')}) can't "
            f"be evaluated with a model that predicts {', '.join(predicted)}. "
            f"{_remedy(cfg, tasks)}"
        )
    return kinds


def kinds_of_dataset(name: str) -> list[Kind]:
    """Return how a registered dataset can be evaluated.

    Raises:
        ConfigError: its type is unknown.
    """
    metadata = MetadataCatalog.get(name)
    kind = metadata.get("evaluator_type")
    if kind not in KINDS:
        known = ", ".join(str(key) for key in KINDS if key is not None)
        raise ConfigError(
            f"Dataset {name!r} has the evaluator_type {kind!r}, for which there is no evaluator "
            f"here; there are {known}. For detectron2's dicts with masks set "
            f"MetadataCatalog.get({name!r}).evaluator_type = 'coco', or override "
            "Trainer.build_evaluator (docs/extending.md)."
        )
    # Instances of Cityscapes have the classes of its pixels beside their own.
    return [k for k in KINDS[kind] if k.task != "semantic" or metadata.get("stuff_classes")]


def _remedy(cfg: CfgNode, tasks: Sequence[str]) -> str:
    """Return what lets the model of a configuration predict one of some tasks."""
    method, name = (
        METHODS.get(cfg.MODEL.META_ARCHITECTURE),
        method_name(cfg.MODEL.META_ARCHITECTURE),
    )
    if name == "MaskFormer":
        keys = [f"MODEL.MASK_FORMER.TEST.{task.upper()}_ON True" for task in tasks]
        return f"Set {' or '.join(keys)}, or name another dataset."
    if name == "SparseInst" and "panoptic" in tasks:
        return "Set MODEL.SPARSE_INST.PANOPTIC_ON True, or name another dataset."
    if method and method.classify_key and "instance" in tasks:
        return f"Set {method.classify_key} True, or name another dataset."
    return (
        "Name a dataset of instances in DATASETS.TEST, for instance "
        "coco_json:ANNOTATIONS.json:IMAGE_DIR; panoptic and semantic labels are MaskFormer's."
    )


def mapped(evaluator: DatasetEvaluator, classes: Sequence[str], name: str) -> DatasetEvaluator:
    """Return an evaluator that accepts predictions with the model's order of classes.

    Args:
        evaluator: an evaluator of the dataset, which expects the dataset's order of classes.
        classes: names of the model's classes; if empty, they have the dataset's order.
        name: name of the dataset.

    Raises:
        ConfigError: the model and the dataset have different classes.
    """
    places = match_classes(classes, name)
    return evaluator if places is None else MappedClasses(evaluator, places)


def predicted_tasks(cfg: CfgNode) -> list[str]:
    """Return a model's tasks: some of "semantic", "panoptic", "instance" and "proposals"."""
    name = method_name(cfg.MODEL.META_ARCHITECTURE)
    if name == "SemanticSegmentor":
        return ["semantic"]
    if name == "SparseInst":
        return [*(["panoptic"] if cfg.MODEL.SPARSE_INST.PANOPTIC_ON else []), "instance"]
    if name != "MaskFormer":
        method = METHODS.get(cfg.MODEL.META_ARCHITECTURE)
        proposals = ["proposals"] if method and "proposals" in method.tasks else []
        return proposals + ([] if is_class_agnostic(cfg) else ["instance"])
    test = cfg.MODEL.MASK_FORMER.TEST
    tasks = ("semantic", "panoptic", "instance")
    return [task for task in tasks if test[f"{task.upper()}_ON"]]
