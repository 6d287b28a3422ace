"""The losses of SOLO and SOLOv2 (arXiv 1912.04488, section 2.3): of categories and of masks.

B images, K classes, S grid side, C cells of all levels, P pairs of a positive cell and an object.
"""

import torch
from detectron2.config import CfgNode
from torch import Tensor

from ...modeling.focal import focal_loss
from ...modeling.normalizer import normalizer


class GridCriterion:
    """Weights and normalises the two losses.

    Args:
        num_classes: K.
        focal_alpha, focal_gamma, focal_weight: the category loss.
        mask_weight: weight of the mask loss.
        dice_normalizer: what the mask loss is divided by: "pairs", P (a mean, as published), or
            "cells", the number of distinct positive cells.
        globally: `SOLVER.NORMALIZE_LOSS_GLOBALLY`.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        focal_alpha: float,
        focal_gamma: float,
        focal_weight: float,
        mask_weight: float,
        dice_normalizer: str = "pairs",
        globally: bool = False,
    ) -> None:
        self.num_classes = num_classes
        self.focal_alpha = focal_alpha
        self.focal_gamma = focal_gamma
        self.focal_weight = focal_weight
        self.mask_weight = mask_weight
        self.dice_normalizer = dice_normalizer
        self.globally = globally

    @classmethod
    def from_config(
        cls, method: CfgNode, *, num_classes: int, mask_weight: float, globally: bool
    ) -> "GridCriterion":
        """Read a method's keys, for instance `cfg.MODEL.SOLOV2`."""
        return cls(
            num_classes=num_classes,
            focal_alpha=method.LOSS.FOCAL_ALPHA,
            focal_gamma=method.LOSS.FOCAL_GAMMA,
            focal_weight=method.LOSS.FOCAL_WEIGHT,
            mask_weight=mask_weight,
            dice_normalizer=method.LOSS.DICE_NORMALIZER,
            globally=globally,
        )

    def __call__(
        self, category_logits: list[Tensor], labels: Tensor, mask_losses: Tensor
    ) -> dict[str, Tensor]:
        """Compute both losses of a batch.

        Args:
            category_logits: per level [B, K, S, S].
            labels: int64 [B, C], of the cells of all levels, K for background.
            mask_losses: float32 [P], one per pair, of all images and levels.

        Returns:
            loss_category, loss_mask: weighted scalars.
        """
        logits = torch.cat([level.flatten(2).transpose(1, 2) for level in category_logits], dim=1)
        num_positive = (labels < self.num_classes).sum()
        one_hot = labels[..., None] == torch.arange(self.num_classes, device=labels.device)
        focal = focal_loss(logits, one_hot, alpha=self.focal_alpha, gamma=self.focal_gamma)
        # One is added to the number of positive cells, as published: there may be none.
        focal_normalizer = normalizer(num_positive, globally=self.globally, offset=1)

        # Filled on the device: a number from the host would wait for what is queued there.
        pairs = torch.full((), len(mask_losses), device=mask_losses.device)
        counted = pairs if self.dice_normalizer == "pairs" else num_positive
        dice_normalizer = normalizer(counted, globally=self.globally)
        return {
            "loss_category": self.focal_weight * focal.sum() / focal_normalizer,
            "loss_mask": self.mask_weight * mask_losses.sum() / dice_normalizer,
        }
