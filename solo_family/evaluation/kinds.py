"""The evaluators: for which datasets and predictions each is, and which metrics it gives.

K classes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator

from ..data.formats.coco_file import read_coco_file
from ..data.formats.dataset_classes import dataset_classes
from ..data.formats.voc import EVALUATOR_TYPE as VOC
from .cityscapes import METRICS as CITYSCAPES_METRICS
from .cityscapes import CityscapesEvaluator
from .instance_results import InstanceEvaluator
from .lvis import METRICS as LVIS_METRICS
from .lvis import TASKS, LvisInstanceEvaluator
from .panoptic_quality import PanopticEvaluator
from .proposal_recall import LIMITS, ProposalRecallEvaluator, summarise
from .semantic import HAS_BOUNDARIES, SemanticEvaluator

_COCO_METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl")
# The evaluation of boundaries has pictures of 8 bits.
_BOUNDARY_CLASSES = np.iinfo(np.uint8).max


@dataclass(frozen=True)
class Kind:
    """One way to evaluate a dataset.

    Attributes:
        task: what of the model's predictions it evaluates: "semantic", "panoptic", "instance",
            "proposals".
        build: from a dataset's name and a folder to the evaluator.
        metrics: from a dataset's name to the names of its metrics, as "segm/AP".
    """

    task: str
    build: Callable[[str, str], DatasetEvaluator]
    metrics: Callable[[str], list[str]]


def coco_evaluator(name: str, folder: str) -> InstanceEvaluator:
    """Return the evaluator of instances of a dataset with COCO's metrics."""
    return InstanceEvaluator(name, tasks=TASKS, output_dir=folder)


def _coco_metrics(name: str) -> list[str]:
    metadata = MetadataCatalog.get(name)
    if metadata.get("json_file"):
        file = read_coco_file(metadata.json_file, metadata.get("image_root"))
        if not file.is_annotated:  # as those of COCO's test images
            return []
    names = dataset_classes(name) or []
    classes = [f"AP-{label}" for label in names] if len(names) > 1 else []
    return _of(TASKS, [*_COCO_METRICS, *classes])


def _semantic_metrics(name: str) -> list[str]:
    names: Sequence[str] = MetadataCatalog.get(name).get("stuff_classes") or []
    per_class = ["IoU", "ACC"]
    if HAS_BOUNDARIES and len(names) < _BOUNDARY_CLASSES:
        per_class += ["BoundaryIoU", "min(IoU, B-Iou)"]
    overall = ["mIoU", "fwIoU", "mACC", "pACC", "final_score", "PQ_st", "SQ_st", "RQ_st"]
    return _of(["sem_seg"], [*overall, *(f"{kind}-{n}" for kind in per_class for n in names)])


def _panoptic_metrics(_: str) -> list[str]:
    groups = [(metric, of) for of in ("", "_th", "_st") for metric in ("PQ", "SQ", "RQ")]
    return _of(["panoptic_seg"], [metric + of for metric, of in groups])


def _recall_metrics(_: str) -> list[str]:
    return _of(["proposals"], list(summarise({limit: np.zeros((10, 4)) for limit in LIMITS})))


def _of(tasks: Sequence[str], metrics: Sequence[str]) -> list[str]:
    return [f"{task}/{metric}" for task in tasks for metric in metrics]


PROPOSALS = Kind("proposals", ProposalRecallEvaluator, _recall_metrics)
_SEMANTIC = Kind("semantic", SemanticEvaluator, _semantic_metrics)
_PANOPTIC = Kind("panoptic", PanopticEvaluator, _panoptic_metrics)
_COCO = Kind("instance", coco_evaluator, _coco_metrics)
_LVIS = Kind("instance", LvisInstanceEvaluator, lambda _: _of(TASKS, LVIS_METRICS))
_CITYSCAPES = Kind("instance", CityscapesEvaluator, lambda _: list(CITYSCAPES_METRICS))

# By the `evaluator_type` of a dataset's metadata, in the order in which metrics are shown. One that
# has none has instances, as detectron2's dicts.
KINDS: dict[str | None, tuple[Kind, ...]] = {
    None: (_COCO,),
    "coco": (_COCO,),
    VOC: (_COCO,),
    "lvis": (_LVIS,),
    "cityscapes_instance": (_CITYSCAPES,),
    "sem_seg": (_SEMANTIC,),
    "cityscapes_sem_seg": (_SEMANTIC,),
    "ade20k_panoptic_seg": (_SEMANTIC, _PANOPTIC),
    "coco_panoptic_seg": (_PANOPTIC,),
    "cityscapes_panoptic_seg": (_PANOPTIC,),
}
