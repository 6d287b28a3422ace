"""Turn the scored cells of a grid into the instances of images: everything after the network.

B images, C cells of all levels, K classes, h w size of the masks.
"""

from collections.abc import Iterator

import torch
from detectron2.structures import Instances
from torch import Tensor

from ...modeling import order
from ...modeling.instances import make_instances
from ...ops.compact import resize_compactly
from .decoded_masks import Size
from .mask_decoder import GridOutputs
from .selection import Selected, Selection, select_in_chunks
from .selection_at_once import Ranked, rank, select_at_once


def suits_at_once(selection: Selection, cell_scores: Tensor) -> bool:
    """Return whether `select_at_once` suits: waiting is expensive, and NMS has no step that waits.

    On a CPU nothing waits; `select_in_chunks` is better there, as it measures fewer masks.
    """
    return selection.selector.nms_type == "matrix" and order.waits(cell_scores)


def rank_images(
    selection: Selection, outputs: GridOutputs, cell_scores: Tensor, mask_size: Size
) -> list[Ranked] | None:
    """Return the candidates of images after NMS, if that is possible without waiting for a GPU.

    Args:
        selection: see `select_images`.
        outputs: see `select_images`.
        cell_scores: float32 [B, C, K].
        mask_size: (h, w).

    Returns:
        One `Ranked` per image; None if ranking would have to wait.
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
    """Yield the instances of every image of a batch.

    Args:
        selection: the rules of selection, the mask decoder and the grid.
        outputs: the head's predictions.
        cell_scores: float32 [B, C, K], probabilities after point NMS.
        mask_size: (h, w).
        padded_size: (height, width) of the network's input.
        image_sizes: (height, width) of each image in the batch, without padding.
        output_sizes: (height, width) of each image's result.
        ranked: the result of `rank_images`, if it was called before.
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
        binary, boxes = resize_compactly(soft, padded_size, size, output_size, threshold)
        yield make_instances(binary, scores, classes, boxes)


def _select_in_chunks(
    selection: Selection, image: GridOutputs, cell_scores: Tensor, size: Size
) -> Selected:
    with torch.autocast(cell_scores.device.type, enabled=False):
        return select_in_chunks(selection, image, cell_scores, size)
