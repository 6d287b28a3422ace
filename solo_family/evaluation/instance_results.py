"""COCO results of predicted instances, whose masks are encoded where they are."""

from typing import Any

from detectron2.evaluation import COCOEvaluator
from detectron2.evaluation.coco_evaluation import instances_to_coco_json
from detectron2.structures import BitMasks, Instances

from ..data.formats.rle import encode_masks


def instance_results(instances: Instances, image_id: int) -> list[dict[str, Any]]:
    """detectron2's `instances_to_coco_json`, of instances on any device.

    From a GPU the lengths of the masks' runs travel instead of their pixels.

    Args:
        instances: with `pred_boxes`, `scores`, `pred_classes`, and `pred_masks`, bool [N, H, W].
        image_id: what the results say.
    """
    fields = dict(instances.get_fields())
    masks = fields.pop("pred_masks", None)
    results = instances_to_coco_json(Instances(instances.image_size, **fields).to("cpu"), image_id)
    if masks is None or not results:
        return results
    if isinstance(masks, BitMasks):
        masks = masks.tensor
    return [
        result | {"segmentation": rle}
        for result, rle in zip(results, encode_masks(masks.bool()), strict=True)
    ]


class InstanceEvaluator(COCOEvaluator):
    """detectron2's evaluator of instances in COCO's format, see `instance_results`."""

    def process(self, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> None:
        """Keep the results of some images, as COCOEvaluator does."""
        for given, output in zip(inputs, outputs):
            prediction = {"image_id": given["image_id"]}
            if "instances" in output:
                instances = output["instances"]
                prediction["instances"] = instance_results(instances, given["image_id"])
            if "proposals" in output:
                prediction["proposals"] = output["proposals"].to("cpu")
            if len(prediction) > 1:
                self._predictions.append(prediction)
