"""SOLOv2 (Wang et al., NeurIPS 2020, arXiv 2003.10152).

B images, C cells of all levels, E kernel weights, P pairs of a positive cell and an object.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from torch import Tensor

from ...config.rules import check_channels, check_features
from ...data.formats.classes import num_classes
from ...modeling.dice import dice_loss
from ...ops import PackedMasks, decode_masks, dynamic_conv
from ..grid.criterion import GridCriterion
from ..grid.mask_losses import in_parts
from ..grid.model import GridSegmentor
from ..grid.selection import Pack
from ..grid.selection_at_once import Claims
from ..grid.targets import ImagePairs
from .head import SOLOv2Head
from .mask_feature_branch import MaskFeatureBranch


class SOLOv2(GridSegmentor):
    """Segments objects by location: each grid cell predicts a category and a mask kernel.

    Args:
        head: categories and kernels.
        mask_branch: the mask features that the kernels are applied to.
        mask_features: names of the mask branch's levels, the finest first.
        grid: arguments of `GridSegmentor`.
    """

    @configurable
    def __init__(
        self,
        *,
        head: SOLOv2Head,
        mask_branch: MaskFeatureBranch,
        mask_features: list[str],
        **grid: Any,
    ) -> None:
        super().__init__(**grid)
        self.head = head
        self.mask_branch = mask_branch
        self.mask_features = mask_features

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        solov2 = cfg.MODEL.SOLOV2
        classes = num_classes(cfg, "MODEL.SOLOV2.NUM_CLASSES")
        grid = cls.grid_config(cfg, "MODEL.SOLOV2", classes)
        shapes = grid["backbone"].output_shape()
        check_features("MODEL.SOLOV2.MASK_IN_FEATURES", solov2.MASK_IN_FEATURES, shapes)
        finest = shapes[solov2.MASK_IN_FEATURES[0]]
        check_channels(
            "MODEL.SOLOV2.MASK_IN_CHANNELS", solov2.MASK_IN_CHANNELS, 256, finest.channels
        )
        levels = len(solov2.MASK_IN_FEATURES)
        return {
            **grid,
            "mask_stride": finest.stride,
            "head": SOLOv2Head(
                in_channels=shapes[solov2.INSTANCE_IN_FEATURES[0]].channels,
                num_grids=solov2.NUM_GRIDS,
                channels=solov2.INSTANCE_CHANNELS,
                num_convs=solov2.NUM_INSTANCE_CONVS,
                num_classes=classes,
                num_kernels=solov2.NUM_KERNELS,
                norm=solov2.NORM,
                coord_conv=solov2.USE_COORD_CONV,
                prior_prob=solov2.PRIOR_PROB,
                dcn=solov2.TYPE_DCN if solov2.USE_DCN_IN_INSTANCE else "",
                dcn_convs=solov2.DCN_CONVS,
            ),
            "mask_branch": MaskFeatureBranch(
                in_channels=finest.channels,
                num_levels=levels,
                channels=solov2.MASK_CHANNELS,
                out_channels=solov2.NUM_MASKS,
                norm=solov2.NORM,
                coord_level=3 if solov2.MASK_COORD_LEVEL == "fourth" else levels - 1,
                dcn=solov2.TYPE_DCN if solov2.USE_DCN_IN_MASK else "",
            ),
            "mask_features": solov2.MASK_IN_FEATURES,
            "criterion": GridCriterion.from_config(
                solov2,
                num_classes=classes,
                mask_weight=solov2.LOSS.DICE_WEIGHT,
                globally=cfg.SOLVER.NORMALIZE_LOSS_GLOBALLY,
            ),
        }

    def run_head(
        self, features: dict[str, Tensor], padded_size: tuple[int, int]
    ) -> tuple[list[Tensor], tuple[Tensor, Tensor]]:
        """Runs head and mask branch.

        Returns:
            category_logits: L x [B, K, S, S].
            kernels [B, C, E] and mask features [B, E, H / 4, W / 4].
        """
        category_logits, kernels = self.head(self.aligned_levels(features, padded_size))
        flat_kernels = torch.cat([level.flatten(2) for level in kernels], dim=2).transpose(1, 2)
        mask_features = self.mask_branch([features[name] for name in self.mask_features])
        return category_logits, (flat_kernels, mask_features)

    def mask_losses(
        self, masks: Sequence[Tensor], pairs: ImagePairs, small_masks: Tensor
    ) -> Tensor:
        kernels, mask_features = masks

        def losses(kernels: Tensor, objects: Tensor) -> Tensor:
            return dice_loss(dynamic_conv(kernels, mask_features), small_masks[objects])

        return in_parts(losses, kernels.index_select(0, pairs.cells), pairs.objects)

    def decode(self, masks: Sequence[Tensor], size: tuple[int, int], cells: Tensor) -> Tensor:
        kernels, mask_features = masks
        # In place: the logits are not needed again.
        return dynamic_conv(kernels[cells].float(), mask_features.float()).sigmoid_()

    def packer(self, masks: Sequence[Tensor]) -> Pack:
        kernels, mask_features = masks
        threshold = self.selector.mask_threshold
        return lambda cells: decode_masks(kernels[cells], mask_features, threshold)

    @property
    def measures_at_once(self) -> bool:
        return True

    def measure_at_once(
        self, masks: Sequence[Tensor], size: tuple[int, int], claims: Claims
    ) -> Iterator[PackedMasks]:
        threshold = self.selector.mask_threshold
        for kernels, features, cells, counts in zip(*masks, *claims):
            # Those that are claimed come first; the others cost next to nothing.
            yield decode_masks(kernels, features, threshold, rows=cells, valid=counts[-1])
