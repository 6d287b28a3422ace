"""From classified masks to semantic segmentation (MaskFormer, arXiv 2107.06278, section 3.4).

N masks, K classes, H W of the result.
"""

import torch
from torch import Tensor

from ...modeling.panoptic import SoftMasks, assign_pixels


def marginalise(masks: SoftMasks, probabilities: Tensor, size: tuple[int, int]) -> Tensor:
    """Returns sum_i p_i(c) m_i of every class and pixel ("semantic inference").

    Args:
        masks: N masks in chunks, in order; see `SoftMasks`.
        probabilities: float32 [N, K + 1] of the classes, "no object" last.
        size: (H, W).

    Returns:
        float32 [K, H, W].
    """
    result = probabilities.new_zeros((probabilities.shape[1] - 1, *size))
    for part, mask in masks:
        # In place: a second map of all classes would be as large as the result.
        result.flatten(1).addmm_(probabilities[part, :-1].T, mask.flatten(1))
    return result


def assign_hard(masks: SoftMasks, probabilities: Tensor, size: tuple[int, int]) -> Tensor:
    """Gives every pixel to one mask, and its class to the pixel ("general inference").

    A mask has its most probable class and does not take part if that is "no object"; a pixel
    belongs to the mask with the greatest p_i(c_i) m_i.

    Args:
        masks, probabilities, size: as of `marginalise`.

    Returns:
        float32 [K, H, W]: p_i(c_i) m_i at the pixel's class, 0 at the others.
    """
    num_classes = probabilities.shape[1] - 1
    scores, classes = probabilities.max(1)
    scores = torch.where(classes < num_classes, scores, 0)
    pixels = assign_pixels(masks, scores, size)
    # "No object" can only win where no mask takes part: with 0, which it may give to any class.
    label = classes.clamp(max=num_classes - 1)[pixels.mask]
    result = probabilities.new_zeros((num_classes, *size))
    return result.scatter_(0, label[None], pixels.value[None])
