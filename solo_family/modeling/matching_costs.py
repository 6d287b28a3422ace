"""Compute the matching cost of a prediction and an object, in float32.

N predictions, G objects, K classes, h w of the masks. Shapes are those of one image; a batch has B
in front of every shape.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .pairwise import pairwise_dice, pairwise_focal_and_dice


@torch.no_grad()
def sparse_inst_cost(
    class_logits: Tensor,
    mask_logits: Tensor,
    classes: Tensor,
    masks: Tensor,
    *,
    alpha: float = 0.8,
    beta: float = 0.2,
) -> Tensor:
    """Return -dice^alpha p^beta of one image (SparseInst, arXiv 2203.12827, "Label Assignment").

    Args:
        class_logits: [N, K]; p is the sigmoid of the object's class.
        mask_logits: [N, h, w].
        classes: int64 [G].
        masks: [G, h, w], bool or 0 to 1.
        alpha: exponent of the dice coefficient.
        beta: exponent of the probability.

    Returns:
        float32 [N, G].
    """
    probability = _of_classes(class_logits.float().sigmoid(), classes)
    dice = pairwise_dice(mask_logits, masks, eps=5e-5)
    return -(dice**alpha) * probability**beta


@torch.no_grad()
def mask_former_cost(
    class_logits: Tensor,
    mask_logits: Tensor,
    classes: Tensor,
    masks: Tensor,
    *,
    mask_weight: float = 20.0,
    dice_weight: float = 1.0,
) -> Tensor:
    """Return -p(class) + L_mask of one image (MaskFormer, arXiv 2107.06278, section 3.2).

    Masks are compared at the size of the predictions; the true ones are resized to it by
    nearest-neighbour sampling, as in the official code.

    Args:
        class_logits: [N, K + 1], "no object" last; p is their softmax.
        mask_logits: [N, h, w].
        classes: int64 [G].
        masks: bool [G, H, W], or 0 and 1 at the size of the predictions.
        mask_weight: the weight of the focal loss.
        dice_weight: the weight of the dice loss.

    Returns:
        float32 [N, G].
    """
    if not classes.shape[-1]:
        return class_logits.new_zeros((*class_logits.shape[:-1], 0), dtype=torch.float32)
    probability = _of_classes(class_logits.float().softmax(-1), classes)
    small = nearest_masks(masks, (mask_logits.shape[-2], mask_logits.shape[-1]))
    focal, coefficient = pairwise_focal_and_dice(mask_logits, small, alpha=0.25, gamma=2.0)
    return -probability + mask_weight * focal + dice_weight * (1 - coefficient)


@torch.no_grad()
def fixed_cost(class_logits: Tensor, mask_logits: Tensor, classes: Tensor, masks: Tensor) -> Tensor:
    """Return a cost that is lowest where the k-th prediction is matched with class k.

    That is the fixed matching of MaskFormer's ablation (arXiv 2107.06278, section 4.4), for
    semantic targets, in which every class occurs at most once.

    Args:
        class_logits: see `mask_former_cost`.
        mask_logits: see `mask_former_cost`.
        classes: see `mask_former_cost`.
        masks: see `mask_former_cost`.

    Returns:
        float32 [N, G], 0 or 1.
    """
    queries = torch.arange(class_logits.shape[-2], device=classes.device)
    return (queries[:, None] != classes[..., None, :]).float()


def nearest_masks(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """Return masks [..., H, W], bool or of that size already, as float32 [..., h, w].

    They are resized by nearest-neighbour sampling, as in MaskFormer's official code.
    """
    if masks.shape[-2:] == size:
        return masks.float()
    # As bytes, because a float map of every mask at full resolution is not needed.
    pixels = masks.to(torch.uint8).flatten(0, -3)[:, None]
    small = F.interpolate(pixels, size=size, mode="nearest").float()
    return small.view(*masks.shape[:-2], *size)


def _of_classes(probabilities: Tensor, classes: Tensor) -> Tensor:
    """Return the columns of the objects' classes, [N, G], from [N, K]."""
    return probabilities.take_along_dim(classes[..., None, :], dim=-1)
