"""Measure the recall of class-agnostic mask proposals, by COCO's matching.

AR@N is the recall of each image's N best masks, averaged over IoU thresholds from 0.5 to 0.95
(Hosang et al., arXiv 1502.05082, with COCO's thresholds), as InstanceFCN and DeepMask report it.
"""

import contextlib
import io
import json
import logging
import pickle
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.evaluation import DatasetEvaluator
from detectron2.evaluation.coco_evaluation import instances_to_coco_json
from detectron2.structures import BoxMode, Instances
from detectron2.utils import comm
from detectron2.utils.logger import create_small_table
from pycocotools import mask as mask_util
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ..data.formats.coco_json import dataset_truth
from ..files import replacing
from ..progress import Progress
from .recall_picture import draw_recall

logger = logging.getLogger(__name__)

LIMITS = (10, 100, 1000)
# COCO's thresholds; a mask below the first matches nothing.
IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
# In COCO's order of areas: all, small (below 32 x 32 pixels), medium, large (above 96 x 96).
_SIZES = ("", "s", "m", "l")

Annotation = dict[str, Any]


class ProposalRecallEvaluator(DatasetEvaluator):
    """Measure the recall of objects by the best 10, 100 and 1000 masks of each image.

    Classes are ignored, and so are crowds. In addition to the metrics the evaluator writes
    `proposal_recall.json` and `.png`, which show the recall at every IoU threshold, and
    `proposals.pkl`, the proposals in detectron2's format (`DATASETS.PROPOSAL_FILES_TEST`).

    Args:
        dataset_name: name of a dataset that is registered with a COCO-format json, or as
            detectron2's dicts.
        output_dir: the folder for these files.
        most: how many masks of an image the model returns at most: above 1000, one more N.
    """

    def __init__(self, dataset_name: str, output_dir: str, most: int | None = None) -> None:
        self._limits = LIMITS if most is None or most <= max(LIMITS) else (*LIMITS, most)
        self._dataset_name = dataset_name
        self._output_dir = Path(output_dir)
        self.reset()

    def reset(self) -> None:
        """Forget all images."""
        self._boxes: list[tuple[Any, np.ndarray, np.ndarray]] = []
        self._proposals: list[Annotation] = []

    def process(self, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> None:
        """Keep the best of each image's `instances` (pred_masks, pred_boxes, scores)."""
        for item, output in zip(inputs, outputs):
            instances = _best(output["instances"].to("cpu"), max(self._limits))
            image_id = item["image_id"]
            self._proposals += instances_to_coco_json(instances, image_id)
            boxes, scores = instances.pred_boxes.tensor.numpy(), instances.scores.numpy()
            self._boxes.append((image_id, boxes, _logits(scores)))

    def evaluate(self) -> dict[str, dict[str, float]] | None:
        """Return {"proposals": metrics in percent}, in the main process; NaN without objects.

        The metrics are AR@N, with ARs@N, ARm@N and ARl@N for small, medium and large objects, and
        R50@N, R70@N and R90@N, the recall at one IoU.
        """
        comm.synchronize()
        proposals = [p for part in comm.gather(self._proposals) for p in part]
        boxes = [b for part in comm.gather(self._boxes) for b in part]
        if not comm.is_main_process():
            return None
        self._output_dir.mkdir(parents=True, exist_ok=True)
        self._write_proposals(boxes)
        truth = dataset_truth(self._dataset_name)
        if "annotations" not in truth.dataset:
            logger.warning(f"{self._dataset_name} has no annotations: recall is not measured.")
            return {}
        recall = proposal_recall(truth, proposals, self._limits)
        self._write_curves(recall)
        metrics = summarise(recall)
        logger.info(f"Recall of proposals:\n{create_small_table(metrics)}")
        return {"proposals": metrics}

    def _write_proposals(self, boxes: list[tuple[Any, np.ndarray, np.ndarray]]) -> None:
        content = {
            "ids": [image_id for image_id, _, _ in boxes],
            "boxes": [xyxy for _, xyxy, _ in boxes],
            "objectness_logits": [logits for _, _, logits in boxes],
            "bbox_mode": BoxMode.XYXY_ABS,
        }
        with replacing(self._output_dir / "proposals.pkl") as path:
            path.write_bytes(pickle.dumps(content))

    def _write_curves(self, recall: dict[int, np.ndarray]) -> None:
        thresholds = IOU_THRESHOLDS.round(2).tolist()
        curves = {limit: of_all[:, 0].tolist() for limit, of_all in recall.items()}
        with replacing(self._output_dir / "proposal_recall.json") as path:
            text = json.dumps({"iou_thresholds": thresholds, "recall": curves})
            path.write_text(text, encoding="utf-8")
        if min(map(min, curves.values())) >= 0:  # there are objects
            draw_recall(self._output_dir / "proposal_recall.png", thresholds, curves)


def proposal_recall(
    truth: COCO, proposals: list[Annotation], limits: Sequence[int] = LIMITS
) -> dict[int, np.ndarray]:
    """Measure the recall of class-agnostic proposals.

    Args:
        truth: the ground truth.
        proposals: COCO results, each with image_id, segmentation (RLE) and score.
        limits: N of AR@N, ascending.

    Returns:
        For each of `LIMITS` an array [10, 4]: the recall, 0 to 1, at each IoU threshold, of objects
        of all sizes and of small, medium and large ones; -1 if there are no such objects.
    """
    by_image: dict[Any, list[Annotation]] = defaultdict(list)
    for proposal in sorted(proposals, key=lambda proposal: -proposal["score"]):
        by_image[proposal["image_id"]].append(proposal)
    near: dict[int, list[Annotation]] = {limit: [] for limit in limits}
    for image_id in Progress(truth.getImgIds(), desc="proposals", unit="image"):
        found = _near_an_object(truth.imgToAnns[image_id], by_image[image_id][: max(limits)])
        for limit in limits:
            near[limit] += [by_image[image_id][rank] for rank in found if rank < limit]
    return {limit: _coco_recall(truth, near[limit], limit) for limit in limits}


def _near_an_object(objects: list[Annotation], proposals: list[Annotation]) -> list[int]:
    """Return the indices of the proposals that may match an object.

    Of a thousand proposals only a few can match. Dropping the others saves most of the time, which
    pycocotools would spend on them.
    """
    if not objects or not proposals:
        return []
    height, width = proposals[0]["segmentation"]["size"]
    masks = [_rle(object_["segmentation"], height, width) for object_ in objects]
    crowd = [int(object_.get("iscrowd", 0)) for object_ in objects]
    iou = mask_util.iou([proposal["segmentation"] for proposal in proposals], masks, crowd)
    return np.flatnonzero(iou.max(axis=1) >= IOU_THRESHOLDS[0]).tolist()


def _rle(segmentation: Any, height: int, width: int) -> Any:
    if isinstance(segmentation, list):
        return mask_util.merge(mask_util.frPyObjects(segmentation, height, width))
    return segmentation


def _coco_recall(truth: COCO, proposals: list[Annotation], limit: int) -> np.ndarray:
    results = COCO()
    any_category = min(truth.getCatIds())
    results.dataset = {
        "images": truth.dataset["images"],
        "categories": truth.dataset["categories"],
        "annotations": [
            {
                **proposal,
                "id": number,
                "category_id": any_category,
                "area": float(mask_util.area(proposal["segmentation"])),
                "iscrowd": 0,
            }
            for number, proposal in enumerate(proposals, start=1)
        ],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        results.createIndex()
        evaluation = COCOeval(truth, results, "segm")
        evaluation.params.useCats = 0
        evaluation.params.maxDets = [limit]
        evaluation.params.iouThrs = IOU_THRESHOLDS
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation.eval["recall"][:, 0, :, 0]


def summarise(recall: dict[int, np.ndarray]) -> dict[str, float]:
    """Return the metrics of `ProposalRecallEvaluator.evaluate` from `proposal_recall`."""
    metrics = {}
    for index, size in enumerate(_SIZES):
        for limit, of_sizes in recall.items():
            metrics[f"AR{size}@{limit}"] = _percent(of_sizes[:, index])
    for iou in (50, 70, 90):
        row = int(np.abs(IOU_THRESHOLDS - iou / 100).argmin())
        for limit, of_sizes in recall.items():
            metrics[f"R{iou}@{limit}"] = _percent(of_sizes[row, :1])
    return metrics


def _percent(recall: np.ndarray) -> float:
    return float(100 * recall.mean()) if (recall >= 0).all() else float("nan")


def _best(instances: Instances, count: int) -> Instances:
    return instances[instances.scores.argsort(descending=True, stable=True)[:count]]


def _logits(scores: np.ndarray) -> np.ndarray:
    clipped = scores.astype(np.float64).clip(1e-7, 1 - 1e-7)
    return np.log(clipped / (1 - clipped)).astype(np.float32)
