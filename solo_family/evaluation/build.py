"""Choose the evaluator of a dataset by the labels that it has, and by what the model predicts."""

from collections.abc import Sequence

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.evaluation import COCOEvaluator, DatasetEvaluator, DatasetEvaluators

from ..data.formats.classes import is_class_agnostic
from ..data.formats.dataset_classes import match_classes
from ..detectron2_patches import use_faster_coco_eval
from ..errors import ConfigError
from ..registry import METHODS
from .instance_results import InstanceEvaluator
from .mapped_classes import MappedClasses
from .panoptic_quality import PanopticEvaluator
from .proposal_recall import ProposalRecallEvaluator
from .semantic import SemanticEvaluator

_SEMANTIC = ("sem_seg", "cityscapes_sem_seg", "ade20k_panoptic_seg")
_PANOPTIC = ("coco_panoptic_seg", "ade20k_panoptic_seg", "cityscapes_panoptic_seg")


def build_evaluator(cfg: CfgNode, name: str, folder: str) -> DatasetEvaluator:
    """Return the evaluator of a dataset: detectron2's, or this package's where it has none.

    Args:
        cfg: the configuration; `MODEL.MASK_FORMER.TEST` and `MODEL.SPARSE_INST.PANOPTIC_ON`
            determine what these methods predict.
        name: the name of a registered dataset.
        folder: where predictions are written.

    Raises:
        ConfigError: there is nothing to evaluate: the dataset's labels are for a task that the
            model does not perform.
    """
    metadata = MetadataCatalog.get(name)
    kind = metadata.get("evaluator_type")
    predicted = predicted_tasks(cfg)
    evaluators: list[DatasetEvaluator] = []
    if cfg.TEST.PROPOSAL_RECALL or "proposals" in predicted:
        evaluators.append(ProposalRecallEvaluator(name, folder))
    if kind in _SEMANTIC and "semantic" in predicted and metadata.get("stuff_classes"):
        evaluators.append(SemanticEvaluator(name, output_dir=folder))
    if kind in _PANOPTIC and "panoptic" in predicted:
        evaluators.append(PanopticEvaluator(name, output_dir=folder))
    if kind not in (*_SEMANTIC, *_PANOPTIC) and "instance" in predicted:
        evaluators.append(coco_evaluator(name, folder))
    if not evaluators:
        raise ConfigError(
            f"Dataset {name!r} (evaluator {kind}) can't be evaluated with a model that predicts "
            f"{', '.join(predicted)}. Set MODEL.MASK_FORMER.TEST.SEMANTIC_ON, PANOPTIC_ON or "
            "INSTANCE_ON, or MODEL.SPARSE_INST.PANOPTIC_ON, or name another dataset."
        )
    evaluator = evaluators[0] if len(evaluators) == 1 else DatasetEvaluators(evaluators)
    return mapped(evaluator, [] if is_class_agnostic(cfg) else cfg.MODEL.CLASS_NAMES, name)


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
    if cfg.MODEL.META_ARCHITECTURE == "SemanticSegmentor":
        return ["semantic"]
    if cfg.MODEL.META_ARCHITECTURE == "SparseInst":
        return [*(["panoptic"] if cfg.MODEL.SPARSE_INST.PANOPTIC_ON else []), "instance"]
    if cfg.MODEL.META_ARCHITECTURE != "MaskFormer":
        method = METHODS.get(cfg.MODEL.META_ARCHITECTURE)
        proposals = ["proposals"] if method and "proposals" in method.tasks else []
        return proposals + ([] if is_class_agnostic(cfg) else ["instance"])
    test = cfg.MODEL.MASK_FORMER.TEST
    tasks = ("semantic", "panoptic", "instance")
    return [task for task in tasks if test[f"{task.upper()}_ON"]]


def coco_evaluator(name: str, folder: str) -> COCOEvaluator:
    """Return the evaluator of instances of a dataset in COCO's format; see `build_evaluator`."""
    # Tasks are given, because it would infer them from the predictions, which may be empty.
    evaluator = InstanceEvaluator(name, tasks=("bbox", "segm"), output_dir=folder)
    use_faster_coco_eval(evaluator)
    return evaluator
