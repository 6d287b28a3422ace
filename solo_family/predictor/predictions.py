"""Filter, describe and convert detectron2's output dict for one image."""

from typing import Any

import torch
from detectron2.data import Metadata
from detectron2.structures import BitMasks, Instances
from torch import Tensor

from ..evaluation.instance_results import instance_results

# Any of "instances", "sem_seg" and "panoptic_seg", as detectron2's models return them.
Predictions = dict[str, Any]
# What a panoptic segmentation says of each segment.
Segments = list[dict[str, Any]]


def keep_confident(predictions: Predictions, threshold: float) -> Predictions:
    """Copy predictions to the CPU, without instances and segments of lower scores.

    Instances without a pixel are left out, too: a mask can lose its last one where it is resized to
    the picture, and COCO's files and pictures can't show it.
    """
    confident = dict(predictions)
    if "instances" in predictions:
        instances = predictions["instances"]
        # First, since most of a GPU's masks are of low scores, and their copies take longest.
        (kept,) = (instances.scores >= threshold).nonzero(as_tuple=True)
        confident["instances"] = _visible(_with_boxes(instances[kept].to("cpu")))
    if "sem_seg" in predictions:
        confident["sem_seg"] = predictions["sem_seg"].to("cpu")
    if "panoptic_seg" in predictions:
        segments, infos = predictions["panoptic_seg"]
        confident["panoptic_seg"] = _confident_segments(segments.to("cpu"), infos, threshold)
    return confident


def _confident_segments(
    segments: Tensor, infos: Segments | None, threshold: float
) -> tuple[Tensor, Segments | None]:
    """Return the segments that are kept; the pixels of the others belong to none."""
    # Some models return no infos, and stuff has no score: nothing can be judged then.
    dropped = [info["id"] for info in infos or () if info.get("score", 1.0) < threshold]
    if infos is None or not dropped:
        return segments, infos
    numbers = torch.tensor(dropped, dtype=segments.dtype, device=segments.device)
    left = torch.where(torch.isin(segments, numbers), segments.new_zeros(()), segments)
    return left, [info for info in infos if info["id"] not in dropped]


def _with_boxes(instances: Instances) -> Instances:
    # Needed for COCO's results, and to draw an object in one colour throughout a video.
    if not instances.has("pred_boxes"):
        instances.pred_boxes = BitMasks(instances.pred_masks).get_bounding_boxes()
    return instances


def _visible(instances: Instances) -> Instances:
    """Return the instances without those whose boxes have no extent, as detectron2's models do."""
    has_extent = instances.pred_boxes.nonempty()
    return instances if bool(has_extent.all()) else instances[has_extent]


def describe(predictions: Predictions) -> str:
    """Describe in a few words what was predicted."""
    if "instances" not in predictions:
        return "segmented"
    count = len(predictions["instances"])
    return "1 instance" if count == 1 else f"{count} instances"


def coco_results(
    predictions: Predictions, image_id: int, metadata: Metadata
) -> list[dict[str, Any]]:
    """Convert instances to COCO results: boxes as x, y, w, h; masks as compressed RLE.

    Args:
        predictions: result of `keep_confident`.
        image_id: written into each result.
        metadata: may map its dataset's category ids to the model's contiguous ones.
    """
    if "instances" not in predictions:
        return []
    to_contiguous = metadata.get("thing_dataset_id_to_contiguous_id", {})
    to_dataset = {contiguous: dataset for dataset, contiguous in to_contiguous.items()}
    results = instance_results(predictions["instances"], image_id)
    for result in results:
        category = result["category_id"]
        result["category_id"] = to_dataset.get(category, category)
    return results
