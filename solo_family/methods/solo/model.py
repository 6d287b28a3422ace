"""Build SOLO and Decoupled SOLO (Wang et al., ECCV 2020, arXiv 1912.04488).

B images, L levels, S grid side, P pairs of a positive cell and an object.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from torch import Tensor

from ...data.formats.classes import num_classes
from ...modeling.gt_masks import downsample_masks
from ..grid.category_branch import CategoryBranch
from ..grid.criterion import GridCriterion
from ..grid.mask_losses import MaskLoss, in_parts, make_mask_loss
from ..grid.model import GridSegmentor
from ..grid.targets import ImagePairs
from .config import HEADS
from .decoupled_head import DecoupledSOLOHead, DecoupledSOLOOutputs
from .head import SOLOHead, SOLOOutputs
from .mask_decoder import Head, LevelMaskDecoder

_HEAD_CLASSES: dict[str, Callable[..., Head]] = {
    "SOLOHead": SOLOHead,
    "DecoupledSOLOHead": DecoupledSOLOHead,
    "DecoupledSOLOLightHead": partial(DecoupledSOLOHead, shared_tower=True),
}


class SOLO(GridSegmentor):
    """Segment objects by location: each grid cell has a category and a mask of the whole image.

    Masks have twice the resolution of the head's features. Only those that are needed are computed:
    the masks of positive cells in training, of candidates at inference.

    Args:
        head: predicts categories and masks.
        mask_loss: computes one value per mask.
        grid: the arguments of `GridSegmentor`.
    """

    @configurable
    def __init__(self, *, head: Head, mask_loss: MaskLoss, **grid: Any) -> None:
        super().__init__(decoder=LevelMaskDecoder(head), **grid)
        self.head = head
        self.mask_loss = mask_loss

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Return the arguments of the constructor from `cfg`, see `MODEL.SOLO`."""
        solo = cfg.MODEL.SOLO
        classes = num_classes(cfg, "MODEL.SOLO.NUM_CLASSES")
        grid = cls.grid_config(cfg, "MODEL.SOLO", classes)
        level = grid["backbone"].output_shape()[solo.INSTANCE_IN_FEATURES[0]]
        tower: dict[str, Any] = {
            "in_channels": level.channels,
            "channels": solo.INSTANCE_CHANNELS,
            "num_convs": solo.NUM_INSTANCE_CONVS,
            "norm": solo.NORM,
            "prior_prob": solo.PRIOR_PROB,
            "dcn": solo.TYPE_DCN if solo.USE_DCN_IN_INSTANCE else "",
            "dcn_convs": solo.DCN_CONVS,
        }
        branch = CategoryBranch(num_classes=classes, align=solo.CATEGORY_ALIGN, **tower)
        mask_loss = make_mask_loss(solo.LOSS)
        name = solo.HEAD_NAME or HEADS[cfg.MODEL.META_ARCHITECTURE][0]
        coords: dict[str, Any] = {"coord_conv": solo.USE_COORD_CONV}
        if name == "SOLOHead":
            coords = {"coord_convs": solo.NUM_COORD_CONVS if solo.USE_COORD_CONV else 0}
        return {
            **grid,
            "mask_stride": _output_stride(solo.FPN_INSTANCE_STRIDES[0]),
            "head": _HEAD_CLASSES[name](
                category_branch=branch,
                num_grids=solo.NUM_GRIDS,
                **coords,
                **tower,
            ),
            "mask_loss": mask_loss.function,
            "criterion": GridCriterion.from_config(
                solo,
                num_classes=classes,
                mask_weight=mask_loss.weight,
                mask_name=mask_loss.name,
                globally=cfg.SOLVER.NORMALIZE_LOSS_GLOBALLY,
            ),
        }

    def predict_cells(
        self, levels: list[Tensor], features: dict[str, Tensor]
    ) -> SOLOOutputs | DecoupledSOLOOutputs:
        """Return the head's predictions; see `GridSegmentor.predict_cells`."""
        return self.head(levels)

    def shrink_masks(
        self, gt_masks: list[Tensor], padded_size: tuple[int, int]
    ) -> dict[int, Tensor]:
        """Return the true masks at the stride of each level's masks, by the level's stride."""
        return {
            stride: downsample_masks(gt_masks, padded_size, _output_stride(stride))
            for stride in set(self.level_strides)
        }

    def mask_losses(
        self, outputs: Any, pairs: ImagePairs, small_masks: dict[int, Tensor]
    ) -> Tensor:
        """Return the mask loss of every pair of one image; see `GridSegmentor.mask_losses`."""
        losses, first = [], 0
        by_level = (part.split(pairs.per_level) for part in (pairs.objects, pairs.cells))
        for level, (objects, cells) in enumerate(zip(*by_level)):
            true_masks = small_masks[self.level_strides[level]]
            level_losses = partial(self._level_losses, level, outputs, true_masks)
            losses.append(in_parts(level_losses, cells - first, objects))
            first += self.num_grids[level] ** 2
        return torch.cat(losses)

    def _level_losses(
        self, level: int, outputs: Any, gt_masks: Tensor, cells: Tensor, objects: Tensor
    ) -> Tensor:
        return self.mask_loss(self.head.mask_logits(level, outputs, cells), gt_masks[objects])


class DecoupledSOLO(SOLO):
    """Segment objects as `SOLO` does, with masks that are products of a column and a row map.

    Only the head differs. The class exists because detectron2's registry needs one per name.
    """


def _output_stride(stride: int) -> int:
    """Return the stride of a level's masks, which have twice the resolution of its features."""
    return stride // 2
