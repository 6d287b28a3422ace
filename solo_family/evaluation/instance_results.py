"""Convert predicted instances to COCO results, encoding masks on the device that holds them."""

from typing import Any

from detectron2.evaluation import COCOEvaluator
from detectron2.evaluation.coco_evaluation import instances_to_coco_json
from detectron2.structures import BitMasks, Instances

from ..data.formats.rle import encode_masks


def instance_results(instances: Instances, image_id: int) -> list[dict[str, Any]]:
    """Convert instances on any device as detectron2's `instances_to_coco_json` does.

    From a GPU only the run lengths of the masks are copied, not their pixels.

    Args:
        instances: detectron2's, with `pred_boxes`, `scores`, `pred_classes`, and `pred_masks`, bool
            [N, H, W].
        image_id: written into each result.
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
    """detectron2's evaluator of instances in COCO's format, using `instance_results`."""

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
