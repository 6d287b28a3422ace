"""From the cells of a grid to the instances of images: all that follows the network.

B images, C cells of all levels, K classes, h w of the masks.
"""

from collections.abc import Iterator

import torch
from detectron2.structures import Instances
from torch import Tensor

from ...modeling import order
from ...modeling.instances import make_instances
from ...ops.resize import resize_masks_with_boxes
from .mask_decoder import GridOutputs
from .selection import Selected, Selection, Size, select_in_chunks
from .selection_at_once import Ranked, rank, select_at_once


def suits_at_once(selection: Selection, cell_scores: Tensor) -> bool:
    """Whether all is queued at once: where waiting costs, and NMS has no steps that wait.

    A CPU, which has nothing to wait for, measures no more masks than it needs.
    """
    return selection.selector.nms_type == "matrix" and order.waits(cell_scores)


def rank_images(
    selection: Selection, outputs: GridOutputs, cell_scores: Tensor, mask_size: Size
) -> list[Ranked] | None:
    """Return the candidates of images after NMS; None where that is not done without a wait.

    Args:
        selection, outputs, cell_scores, mask_size: see `select_images`.
    """
    if not (selection.decoder.packs_directly and suits_at_once(selection, cell_scores)):
        return None
    with torch.autocast(cell_scores.device.type, enabled=False):
        return rank(selection, outputs, cell_scores, mask_size)


def select_images(
    selection: Selection,
    outputs: GridOutputs,
    cell_scores: Tensor,
    mask_size: Size,
    padded_size: Size,
    image_sizes: list[Size],
    output_sizes: list[Size],
    ranked: list[Ranked] | None = None,
) -> Iterator[Instances]:
    """Yield the instances of images of one padded size.

    Args:
        selection: says how.
        outputs: what the head predicts.
        cell_scores: float32 [B, C, K], probabilities after point NMS.
        mask_size: (h, w).
        padded_size: (height, width) of the network's input.
        image_sizes: (height, width) of each image in it, without padding.
        output_sizes: (height, width) that each image's result is asked for.
        ranked: of `rank_images`.
    """
    if suits_at_once(selection, cell_scores):
        selected = select_at_once(selection, outputs, cell_scores, mask_size, ranked)
    else:
        selected = (
            _select_in_chunks(selection, image, scores, mask_size)
            for image, scores in zip(outputs.images(), cell_scores)
        )
    threshold = selection.selector.mask_threshold
    for (scores, classes, soft), size, output_size in zip(selected, image_sizes, output_sizes):
        binary, boxes = resize_masks_with_boxes(soft, padded_size, size, output_size, threshold)
        yield make_instances(binary, scores, classes, boxes)


def _select_in_chunks(
    selection: Selection, image: GridOutputs, cell_scores: Tensor, size: Size
) -> Selected:
    with torch.autocast(cell_scores.device.type, enabled=False):
        return select_in_chunks(selection, image, cell_scores, size)
