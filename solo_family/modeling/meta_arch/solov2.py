"""SOLOv2 (Wang et al., NeurIPS 2020, arXiv 2003.10152).

B images, L levels, S grid side, K classes, E kernel weights, C cells of all levels, P pairs of a
positive cell and an object.
"""

from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.structures import Instances
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ...config.rules import check_channels, check_features
from ...data.classes import num_classes
from ...layers import dynamic_conv
from ...ops.point_nms import point_nms
from ..heads.mask_feature_branch import MaskFeatureBranch
from ..heads.solov2_head import SOLOv2Head, align_levels
from ..losses.dice import dice_loss
from ..losses.grid_criterion import GridCriterion
from ..postprocess.instances import make_instances
from ..postprocess.resize import resize_masks
from ..postprocess.selection import Selector
from ..targets.grid_assigner import GridAssigner, GridTargets
from ..targets.gt_masks import downsample_masks
from .base import MaskSegmentor

# The mask loss of more pairs than this is computed in parts, and again in the backward pass, so
# that a crowded image costs time and not memory.
_PAIRS_AT_ONCE = 128


@META_ARCH_REGISTRY.register()
class SOLOv2(MaskSegmentor):
    """Segments objects by location: each grid cell predicts a category and a mask kernel.

    Args:
        head: categories and kernels.
        mask_branch: the mask features that the kernels are applied to.
        level_features, level_strides: names of the head's levels, and the strides it works at.
        mask_features: names of the mask branch's levels, the finest first.
        assigner, criterion: training.
        selector: inference.
        base: arguments of `MaskSegmentor`.
    """

    @configurable
    def __init__(
        self,
        *,
        head: SOLOv2Head,
        mask_branch: MaskFeatureBranch,
        level_features: list[str],
        level_strides: list[int],
        mask_features: list[str],
        assigner: GridAssigner,
        criterion: GridCriterion,
        selector: Selector,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        self.head = head
        self.mask_branch = mask_branch
        self.level_features = level_features
        self.level_strides = level_strides
        self.mask_features = mask_features
        self.mask_stride = self.backbone.output_shape()[mask_features[0]].stride
        self.assigner = assigner
        self.criterion = criterion
        self.selector = selector

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        solov2 = cfg.MODEL.SOLOV2
        classes = num_classes(cfg, "MODEL.SOLOV2.NUM_CLASSES")
        base = cls.base_config(cfg)
        shapes = base["backbone"].output_shape()
        for key in ("INSTANCE_IN_FEATURES", "MASK_IN_FEATURES"):
            check_features(f"MODEL.SOLOV2.{key}", solov2[key], shapes)
        in_channels = shapes[solov2.INSTANCE_IN_FEATURES[0]].channels
        mask_channels = shapes[solov2.MASK_IN_FEATURES[0]].channels
        check_channels(
            "MODEL.SOLOV2.INSTANCE_IN_CHANNELS", solov2.INSTANCE_IN_CHANNELS, 256, in_channels
        )
        check_channels("MODEL.SOLOV2.MASK_IN_CHANNELS", solov2.MASK_IN_CHANNELS, 256, mask_channels)
        levels = len(solov2.MASK_IN_FEATURES)
        return {
            **base,
            "head": SOLOv2Head(
                in_channels=in_channels,
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
                in_channels=mask_channels,
                num_levels=levels,
                channels=solov2.MASK_CHANNELS,
                out_channels=solov2.NUM_MASKS,
                norm=solov2.NORM,
                coord_level=3 if solov2.MASK_COORD_LEVEL == "fourth" else levels - 1,
                dcn=solov2.TYPE_DCN if solov2.USE_DCN_IN_MASK else "",
            ),
            "level_features": solov2.INSTANCE_IN_FEATURES,
            "level_strides": solov2.FPN_INSTANCE_STRIDES,
            "mask_features": solov2.MASK_IN_FEATURES,
            "assigner": GridAssigner.from_config(solov2, classes),
            "criterion": GridCriterion.from_config(
                solov2, num_classes=classes, globally=cfg.SOLVER.NORMALIZE_LOSS_GLOBALLY
            ),
            "selector": Selector.from_config(solov2),
        }

    def head_outputs(
        self, features: dict[str, Tensor], padded_size: tuple[int, int]
    ) -> tuple[list[Tensor], Tensor, Tensor]:
        """Runs head and mask branch.

        Returns:
            category_logits: L x [B, K, S, S].
            kernels: [B, C, E].
            mask_features: [B, E, H / 4, W / 4].
        """
        levels = [features[name] for name in self.level_features]
        category_logits, kernels = self.head(align_levels(levels, self.level_strides, padded_size))
        flat_kernels = torch.cat([level.flatten(2) for level in kernels], dim=2).transpose(1, 2)
        mask_features = self.mask_branch([features[name] for name in self.mask_features])
        return category_logits, flat_kernels, mask_features

    def losses(
        self,
        features: dict[str, Tensor],
        gt_instances: list[Instances],
        padded_size: tuple[int, int],
    ) -> dict[str, Tensor]:
        category_logits, kernels, mask_features = self.head_outputs(features, padded_size)
        targets = [
            self.assigner(gt.gt_boxes.tensor, gt.gt_classes, gt.gt_masks.tensor, padded_size)
            for gt in gt_instances
        ]
        mask_losses = [
            self._mask_losses(
                kernels[index],
                mask_features[index],
                targets[index],
                gt.gt_masks.tensor,
                padded_size,
            )
            for index, gt in enumerate(gt_instances)
        ]
        labels = [torch.stack([level.labels for level in image]) for image in zip(*targets)]
        return self.criterion(category_logits, labels, torch.cat(mask_losses))

    def _mask_losses(
        self,
        kernels: Tensor,
        mask_features: Tensor,
        targets: list[GridTargets],
        gt_masks: Tensor,
        padded_size: tuple[int, int],
    ) -> Tensor:
        """Returns the dice loss of every pair of one image, [P]."""
        offsets = [0]
        for side in self.head.num_grids[:-1]:
            offsets.append(offsets[-1] + side * side)
        cells = torch.cat([level.cells + offset for level, offset in zip(targets, offsets)])
        objects = torch.cat([level.objects for level in targets])
        small_masks = downsample_masks(gt_masks, padded_size, self.mask_stride)

        def pair_losses(kernels: Tensor, features: Tensor, objects: Tensor) -> Tensor:
            return dice_loss(dynamic_conv(kernels, features), small_masks[objects])

        pairs = list(zip(kernels[cells].split(_PAIRS_AT_ONCE), objects.split(_PAIRS_AT_ONCE)))
        if len(pairs) == 1:
            return pair_losses(pairs[0][0], mask_features, pairs[0][1])
        parts = [
            checkpoint(pair_losses, some_kernels, mask_features, some_objects, use_reentrant=False)
            for some_kernels, some_objects in pairs
        ]
        return torch.cat(parts)

    def predict(
        self,
        features: dict[str, Tensor],
        padded_size: tuple[int, int],
        image_sizes: list[tuple[int, int]],
        output_sizes: list[tuple[int, int]],
    ) -> list[dict[str, Any]]:
        category_logits, kernels, mask_features = self.head_outputs(features, padded_size)
        scores = [point_nms(level.float().sigmoid()).flatten(2) for level in category_logits]
        cell_scores = torch.cat(scores, dim=2).transpose(1, 2)
        strides = torch.cat(
            [
                torch.full((side * side,), stride, device=self.device)
                for side, stride in zip(self.head.num_grids, self.level_strides)
            ]
        )
        results = []
        for index, (image_size, output_size) in enumerate(zip(image_sizes, output_sizes)):
            soft_masks = self._select(
                cell_scores[index], strides, kernels[index].float(), mask_features[index].float()
            )
            instance_scores, classes, probabilities = soft_masks
            masks = resize_masks(
                probabilities,
                padded_size,
                image_size,
                output_size,
                self.selector.mask_threshold,
            )
            results.append({"instances": make_instances(masks, instance_scores, classes)})
        return results

    def _select(
        self, cell_scores: Tensor, strides: Tensor, kernels: Tensor, mask_features: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        height, width = mask_features.shape[-2:]

        def decode(cells: Tensor) -> Tensor:
            # In place: the logits are not needed again.
            return dynamic_conv(kernels[cells], mask_features).sigmoid_()

        with torch.autocast(kernels.device.type, enabled=False):
            return self.selector(cell_scores, strides, decode, (height, width))
