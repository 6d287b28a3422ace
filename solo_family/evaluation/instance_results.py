"""Conversion of predicted instances to COCO results, with masks encoded on their device."""

import copy
import json
import logging
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from detectron2.data import MetadataCatalog
from detectron2.evaluation import COCOEvaluator, coco_evaluation
from detectron2.evaluation.coco_evaluation import instances_to_coco_json
from detectron2.structures import BitMasks, Instances
from detectron2.utils import comm

from ..data.formats.coco_json import dataset_truth
from ..files import replacing, whole_files_of
from ..ops.rle import encode_masks
from ..ops.run_masks import RunMasks
from .coco_metrics import coco_metrics, library_for
from .plain_save import save_plain

# The number of detections per image, those with the highest scores, that COCO's metrics evaluate.
COCO_LIMIT = 100


def instance_results(instances: Instances, image_id: int) -> list[dict[str, Any]]:
    """Convert instances on any device as detectron2's `instances_to_coco_json` does.

    From a GPU only the run lengths of the masks are copied, not their pixels.

    Args:
        instances: N instances, with `pred_boxes`, `scores`, `pred_classes`, and `pred_masks`, bool
            [N, H, W], or `RunMasks`.
        image_id: id of the image, for each result.
    """
    fields = dict(instances.get_fields())
    masks = fields.pop("pred_masks", None)
    results = instances_to_coco_json(Instances(instances.image_size, **fields).to("cpu"), image_id)
    if masks is None or not results:
        return results
    if isinstance(masks, BitMasks):
        masks = masks.tensor
    rles = masks.rles() if isinstance(masks, RunMasks) else encode_masks(masks.bool())
    return [result | {"segmentation": rle} for result, rle in zip(results, rles, strict=True)]


def most_per_image(counts: Iterable[int]) -> int:
    """Return the limit of detections per image that counts all instances, but at least COCO's.

    Args:
        counts: number of predicted instances of each image.
    """
    return max(COCO_LIMIT, *counts, 0)


class InstanceEvaluator(COCOEvaluator):
    """Evaluate instances as detectron2's COCOEvaluator does, with this package's reader of truth.

    Args:
        name: name of a registered dataset.
        tasks: some of "bbox" and "segm".
        output_dir: the folder for the predictions.
        library: computes the metrics if it can; one of `coco_metrics.LIBRARIES`.

    Raises:
        DataError: the dataset's annotations can't be used.
    """

    def __init__(
        self, name: str, tasks: Sequence[str], output_dir: str, library: str = "hotcoco"
    ) -> None:
        # The attributes of COCOEvaluator, whose own `__init__` would read the json itself. For a
        # dataset registered as dicts it would write a json, or use one that may be outdated.
        self._logger = logging.getLogger("detectron2.evaluation.coco_evaluation")
        self._distributed = True
        self._output_dir = output_dir
        self._tasks = list(tasks)
        self.library = library
        self._cpu_device = torch.device("cpu")
        self._metadata = MetadataCatalog.get(name)
        self._coco_api = dataset_truth(name)
        self._do_evaluation = "annotations" in self._coco_api.dataset
        self._kpt_oks_sigmas = ()

    def evaluate(self, img_ids: Any = None) -> Any:
        """Return the metrics, and write the results to files atomically."""
        comm.synchronize()
        predictions = list(chain.from_iterable(comm.gather(self._predictions, dst=0)))
        if not comm.is_main_process():
            return {}
        if not predictions:
            self._logger.warning("[COCOEvaluator] Did not receive valid predictions.")
            return {}
        has_tensors = "proposals" in predictions[0]
        self._results = OrderedDict()
        with whole_files_of(coco_evaluation):
            if self._output_dir:
                path = Path(self._output_dir, "instances_predictions.pth")
                path.parent.mkdir(parents=True, exist_ok=True)
                with coco_evaluation.PathManager.open(str(path), "wb") as file:
                    (torch.save if has_tensors else save_plain)(predictions, file)
            if has_tensors:
                self._eval_box_proposals(predictions)
            if "instances" in predictions[0]:
                self._eval_predictions(predictions, img_ids)
        return copy.deepcopy(self._results)

    def _eval_predictions(
        self, predictions: list[dict[str, Any]], img_ids: list[Any] | None = None
    ) -> None:
        """Write the results as a json, and evaluate them.

        All instances of an image count: COCO's limit of 100 would cap the AP of dense images.
        """
        most = most_per_image(len(image["instances"]) for image in predictions)
        results = self._with_dataset_ids(predictions)
        if self._output_dir:
            path = Path(self._output_dir, "coco_instances_results.json")
            self._logger.info("Saving results to %s", path)
            with replacing(path) as temporary:
                temporary.write_text(json.dumps(results), encoding="utf-8")
        if not self._do_evaluation:
            self._logger.info("Annotations are not available for evaluation.")
            return
        library = library_for(self._coco_api, self.library)
        self._logger.info("Evaluating predictions with %s.", library)
        for task in sorted(self._tasks or ()):
            found = None
            if results:
                found = coco_metrics(
                    self._coco_api,
                    results,
                    task,
                    (1, 10, most),
                    images=img_ids,
                    library=library,
                )
            classes = self._metadata.get("thing_classes")
            self._results[task] = self._derive_coco_results(found, task, class_names=classes)

    def _with_dataset_ids(self, predictions: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the results of all images, with the dataset's ids in place of class indices."""
        results = [result for image in predictions for result in image["instances"]]
        to_index = self._metadata.get("thing_dataset_id_to_contiguous_id")
        if to_index is None:
            return results
        ids = {index: identity for identity, index in to_index.items()}
        beyond = {result["category_id"] for result in results} - set(ids)
        assert not beyond, f"The dataset has {len(ids)} classes, the predictions class {beyond}."
        return [result | {"category_id": ids[result["category_id"]]} for result in results]

    def _derive_coco_results(
        self, coco_eval: Any, iou_type: str, class_names: Sequence[str] | None = None
    ) -> dict[str, float]:
        """Return metrics of 0, with a warning, if nothing was predicted; detectron2 returns NaN."""
        if coco_eval is not None:
            limit = coco_eval.params.maxDets[-1]
            self._logger.info(
                "%s AP (maxDets=%d): of the best %d detections of each image and class.",
                *(iou_type, limit, limit),
            )
            return super()._derive_coco_results(coco_eval, iou_type, class_names)
        self._logger.warning(
            "No instance was predicted on any image, so the %s AP is 0: no score exceeded the "
            "model's thresholds. Train for more iterations, or lower the score threshold.",
            iou_type,
        )
        metrics = ["AP", "AP50", "AP75", "APs", "APm", "APl"]
        if class_names is not None and len(class_names) > 1:
            metrics += [f"AP-{name}" for name in class_names]
        return dict.fromkeys(metrics, 0.0)

    def process(self, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> None:
        """Store the results of a batch of images, as COCOEvaluator does."""
        for given, output in zip(inputs, outputs):
            prediction = {"image_id": given["image_id"]}
            if "instances" in output:
                instances = output["instances"]
                prediction["instances"] = instance_results(instances, given["image_id"])
            if "proposals" in output:
                prediction["proposals"] = output["proposals"].to("cpu")
            if len(prediction) > 1:
                self._predictions.append(prediction)
