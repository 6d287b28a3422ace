"""Turn masks with classes into a map of every class (MaskFormer, NeurIPS 2021, section 3.4).

N queries, K classes, H W of the requested output.
"""

import torch
from torch import Tensor

from ...modeling.panoptic import SoftMasks, assign_pixels
from ...ops.label_maps import COLUMNS, falling_places, first_greatest_
from ...ops.resize import ResizedMasks
from ...ops.resize_rows import MaskRows


def marginalise(
    masks: SoftMasks | MaskRows, probabilities: Tensor, size: tuple[int, int]
) -> Tensor:
    """Return the sum over masks i of p_i(c) m_i for every class and pixel ("semantic inference").

    Args:
        masks: probabilities of N masks in chunks, in order, or in blocks of rows.
        probabilities: float32 [N, K + 1] of the classes, "no object" last.
        size: (H, W).

    Returns:
        float32 [K, H, W].
    """
    if isinstance(masks, MaskRows):
        weights = class_weights(probabilities)
        result = probabilities.new_empty((len(weights), *size))
        for rows, block in masks.blocks:
            sum_masks(weights, block, result[:, rows])
        return result
    result = probabilities.new_zeros((probabilities.shape[1] - 1, *size))
    for part, mask in masks:
        # In place, because a second map of all classes would be as large as the result.
        result.flatten(1).addmm_(probabilities[part, :-1].T, mask.flatten(1))
    return result


def most_probable(masks: MaskRows, probabilities: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the class with the greatest sum of `marginalise` for every pixel.

    Args:
        masks: finite probabilities of N masks in blocks of rows, on a CPU.
        probabilities: finite float32 [N, K + 1] of the classes, "no object" last.
        size: (H, W).

    Returns:
        int64 [H, W].
    """
    weights = class_weights(probabilities)
    places = falling_places(len(weights))
    result = torch.empty(size, dtype=torch.int64, device="cpu")
    for rows, block in masks.blocks:
        columns = block.flatten(1).split(COLUMNS, 1)
        for part, labels in zip(columns, result[rows].view(-1).split(COLUMNS)):
            labels.copy_(first_greatest_(weights @ part, places))
    return result


def sum_masks(weights: Tensor, masks: Tensor, result: Tensor) -> None:
    """Write the sum over masks i of p_i(c) m_i for some rows, on a CPU.

    Args:
        weights: p, float32 [K, N].
        masks: m, float32 [N, r, W].
        result: [K, r, W], each class's rows in one piece.
    """
    for columns, sums in zip(
        masks.flatten(1).split(COLUMNS, 1), result.flatten(1).split(COLUMNS, 1)
    ):
        torch.mm(weights, columns, out=sums)


def class_weights(probabilities: Tensor) -> Tensor:
    """Return the probabilities of each class, [K, N], without those of "no object"."""
    return probabilities[:, :-1].T.contiguous()


def assign_hard(
    masks: SoftMasks | MaskRows, probabilities: Tensor, size: tuple[int, int]
) -> Tensor:
    """Assign each pixel to one mask, whose class the pixel gets ("general inference").

    A mask has its most probable class, and does not take part if that is "no object"; a pixel
    belongs to the mask with the greatest p_i(c_i) m_i.

    Args:
        masks: see `marginalise`.
        probabilities: see `marginalise`.
        size: (H, W).

    Returns:
        float32 [K, H, W]: p_i(c_i) m_i at the pixel's class, 0 at the others.
    """
    num_classes = probabilities.shape[1] - 1
    scores, classes = probabilities.max(1)
    scores = torch.where(classes < num_classes, scores, 0)
    pixels = assign_pixels(masks, scores, size)
    # "No object" wins only where no mask takes part: with 0, which any class may get.
    label = classes.clamp(max=num_classes - 1)[pixels.mask]
    result = probabilities.new_zeros((num_classes, *size))
    return result.scatter_(0, label[None], pixels.value[None])


def probability_maps(masks: ResizedMasks) -> SoftMasks | MaskRows:
    """Return probability maps: the logits are resized before the sigmoid is applied."""
    if masks.by_rows:
        logits = masks.rows()
        return MaskRows(
            logits.num_masks, ((rows, block.sigmoid_()) for rows, block in logits.blocks)
        )
    return ((part, logits.sigmoid()) for part, logits in masks)
