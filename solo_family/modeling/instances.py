"""Build results in detectron2's form."""

from detectron2.structures import Boxes, Instances
from torch import Tensor

from ..ops import mask_boxes


def make_instances(
    masks: Tensor, scores: Tensor, classes: Tensor, boxes: Tensor | None = None
) -> Instances:
    """Return the result of one image; without instances all fields are there, but empty.

    Args:
        masks: bool [N, H, W] of the original image.
        scores: [N], 0 to 1.
        classes: int64 [N].
        boxes: float32 [N, 4], of the masks, if they are known already; see `mask_boxes`.

    Returns:
        Instances with `pred_masks` (bool), `pred_boxes` (tight around the masks, x1 and y1
        exclusive; zeros for a mask without pixels), `scores` (float32), `pred_classes` (int64).
    """
    height, width = masks.shape[-2:]
    return Instances(
        (height, width),
        pred_masks=masks,
        pred_boxes=Boxes(mask_boxes(masks) if boxes is None else boxes),
        scores=scores.float(),
        pred_classes=classes,
    )
