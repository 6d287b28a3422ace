"""Build results in detectron2's form."""

from detectron2.structures import Boxes, Instances
from torch import Tensor

from ..ops import mask_boxes
from ..ops.run_masks import RunMasks


def make_instances(
    masks: Tensor | RunMasks, scores: Tensor, classes: Tensor, boxes: Tensor | None = None
) -> Instances:
    """Return the result of one image; without instances all fields are there, but empty.

    Args:
        masks: bool [N, H, W] of the original image, or runs.
        scores: [N], 0 to 1.
        classes: int64 [N].
        boxes: float32 [N, 4], of the masks, if they are known already; see `mask_boxes`.

    Returns:
        Instances with `pred_masks` (as given), `pred_boxes` (tight around the masks, x1 and y1
        exclusive; zeros for a mask without pixels), `scores` (float32), `pred_classes` (int64).
    """
    height, width = masks.shape[-2:]
    if boxes is None:
        boxes = masks.boxes if isinstance(masks, RunMasks) else mask_boxes(masks)
    return Instances(
        (height, width),
        pred_masks=masks,
        pred_boxes=Boxes(boxes),
        scores=scores.float(),
        pred_classes=classes,
    )
