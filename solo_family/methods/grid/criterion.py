"""Compute the losses of SOLO and SOLOv2: one of the classes, one of the masks.

SOLO, arXiv 1912.04488, section 2.3 of the ECCV version ("Loss Function", Eq. 1).

B images, K classes, S grid side, C cells of all levels, P pairs of a positive cell and an object.
"""

import torch
from detectron2.config import CfgNode
from torch import Tensor

from ...modeling.focal import focal_loss
from ...modeling.normalizer import LossCount


class GridCriterion:
    """Compute L = L_cate + lambda L_mask (SOLO, Eq. 1; SOLOv2, Eq. 2).

    Args:
        num_classes: K.
        focal_alpha: see `focal_loss`, the class loss.
        focal_gamma: see `focal_loss`.
        focal_weight: the weight of the class loss.
        mask_weight: lambda, the weight of the mask loss.
        mask_name: the name of the mask loss: "loss_dice", or "loss_mask" for a loss per pixel.
        dice_normalizer: what the sum of the mask losses is divided by: "pairs" stands for P (a
            mean, as published), "cells" for the number of distinct positive cells.
        globally: the value of `SOLVER.NORMALIZE_LOSS_GLOBALLY`, see `normalizer`.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        focal_alpha: float,
        focal_gamma: float,
        focal_weight: float,
        mask_weight: float,
        mask_name: str = "loss_dice",
        dice_normalizer: str = "pairs",
        globally: bool = False,
    ) -> None:
        self.num_classes = num_classes
        self.focal_alpha = focal_alpha
        self.focal_gamma = focal_gamma
        self.focal_weight = focal_weight
        self.mask_weight = mask_weight
        self.mask_name = mask_name
        self.dice_normalizer = dice_normalizer
        self.globally = globally

    @classmethod
    def from_config(
        cls,
        method: CfgNode,
        *,
        num_classes: int,
        mask_weight: float,
        globally: bool,
        mask_name: str = "loss_dice",
    ) -> "GridCriterion":
        """Build the criterion from a method's keys, for instance `cfg.MODEL.SOLOV2`."""
        return cls(
            num_classes=num_classes,
            focal_alpha=method.LOSS.FOCAL_ALPHA,
            focal_gamma=method.LOSS.FOCAL_GAMMA,
            focal_weight=method.LOSS.FOCAL_WEIGHT,
            mask_weight=mask_weight,
            mask_name=mask_name,
            dice_normalizer=method.LOSS.DICE_NORMALIZER,
            globally=globally,
        )

    def __call__(
        self, category_logits: list[Tensor], labels: Tensor, mask_losses: Tensor
    ) -> dict[str, Tensor]:
        """Compute both losses of a batch.

        Args:
            category_logits: per level, [B, K, S, S].
            labels: int64 [B, C], the class of every cell of all levels; K for background.
            mask_losses: float32 [P], d_mask (SOLO, Eq. 2) of every pair, of all images and levels.

        Returns:
            Two weighted scalars: `loss_class` and, under `mask_name`, the mask loss.
        """
        logits = torch.cat([level.flatten(2).transpose(1, 2) for level in category_logits], dim=1)
        one_hot = labels[..., None] == torch.arange(self.num_classes, device=labels.device)
        focal = focal_loss(logits, one_hot, alpha=self.focal_alpha, gamma=self.focal_gamma)
        # A tensor filled on the device: copying a number from the host would wait for the queue.
        pairs = torch.full((), len(mask_losses), device=mask_losses.device)
        divisors = {name: count.divisor() for name, count in self.counts(labels, pairs).items()}
        return {
            "loss_class": self.focal_weight * focal.sum() / divisors["loss_class"],
            self.mask_name: self.mask_weight * mask_losses.sum() / divisors[self.mask_name],
        }

    def counts(self, labels: Tensor, pairs: Tensor) -> dict[str, LossCount]:
        """Return what the two losses are divided by.

        Args:
            labels: int64 [B, C].
            pairs: scalar, P.
        """
        num_positive = (labels < self.num_classes).sum()
        counted = pairs if self.dice_normalizer == "pairs" else num_positive
        return {
            # As published, one is added to the number of positive cells, which may be zero.
            "loss_class": LossCount(num_positive, self.globally, offset=1),
            self.mask_name: LossCount(counted, self.globally),
        }
