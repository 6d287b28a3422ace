"""Build SOLO and Decoupled SOLO (Wang et al., ECCV 2020, arXiv 1912.04488).

B images, L levels, S grid side, P pairs of a positive cell and an object.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from detectron2.config import CfgNode, configurable
from torch import Tensor, nn

from ...data.formats.classes import num_classes
from ...registry import method_name
from ..grid.category_branch import CategoryBranch
from ..grid.criterion import GridCriterion
from ..grid.level_masks import (
    LevelMaskDecoder,
    losses_by_level,
    output_stride,
    shrink_by_stride,
)
from ..grid.mask_losses import MaskLoss, make_mask_loss
from ..grid.model import GridSegmentor
from ..grid.targets import ImagePairs
from .config import HEADS
from .decoupled_head import DecoupledSOLOHead, DecoupledSOLOOutputs
from .head import SOLOHead, SOLOOutputs

Head = SOLOHead | DecoupledSOLOHead

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
        grid = cls.grid_config(cfg, "MODEL.SOLO", classes, masked_levels=True)
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
        name = solo.HEAD_NAME or HEADS[method_name(cfg.MODEL.META_ARCHITECTURE)][0]
        coords: dict[str, Any] = {"coord_conv": solo.USE_COORD_CONV}
        if name == "SOLOHead":
            coords = {"coord_convs": solo.NUM_COORD_CONVS if solo.USE_COORD_CONV else 0}
        return {
            **grid,
            "mask_stride": output_stride(solo.FPN_INSTANCE_STRIDES[0]),
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

    @property
    def network_parts(self) -> list[nn.Module]:
        """The head; see `MethodInterface.network_parts`."""
        return [self.head]

    def predict_cells(
        self, levels: list[Tensor], features: dict[str, Tensor]
    ) -> SOLOOutputs | DecoupledSOLOOutputs:
        """Return the head's predictions; see `GridSegmentor.predict_cells`."""
        return self.head(levels)

    def shrink_masks(
        self, gt_masks: list[Tensor], padded_size: tuple[int, int]
    ) -> dict[int, Tensor]:
        """Return the true masks by the level's stride; see `shrink_by_stride`."""
        return shrink_by_stride(gt_masks, padded_size, self.level_strides)

    def mask_losses(
        self, outputs: Any, pairs: ImagePairs, small_masks: dict[int, Tensor]
    ) -> Tensor:
        """Return the mask loss of every pair of one image; see `GridSegmentor.mask_losses`."""
        level_losses = partial(self._level_losses, outputs)
        true_masks = [small_masks[stride] for stride in self.level_strides]
        return losses_by_level(level_losses, pairs, self.num_grids, true_masks)

    def _level_losses(
        self, outputs: Any, level: int, gt_masks: Tensor, cells: Tensor, objects: Tensor
    ) -> Tensor:
        return self.mask_loss(self.head.mask_logits(level, outputs, cells), gt_masks[objects])


class DecoupledSOLO(SOLO):
    """Segment objects as `SOLO` does, with masks that are products of a column and a row map.

    Only the head differs. The class exists because detectron2's registry needs one per name.
    """
