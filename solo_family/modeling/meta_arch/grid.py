"""What SOLO, Decoupled SOLO and SOLOv2 have in common: every cell of a grid may be an object.

B images, L levels, S grid side, K classes, C cells of all levels, P pairs of a positive cell and an
object.
"""

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.structures import Instances
from torch import Tensor

from ...config.rules import check_channels, check_features, get_key
from ...layers.folded_norm import fold_fixed_norms
from ...ops.point_nms import point_nms
from ..heads.levels import align_levels
from ..losses.grid_criterion import GridCriterion
from ..postprocess.fixed_selection import FixedInstances, select_fixed, stack_fixed
from ..postprocess.instances import make_instances
from ..postprocess.resize import resize_masks_with_boxes
from ..postprocess.selection import Pack, Selector
from ..targets.grid_assigner import GridAssigner
from ..targets.grid_targets import BatchGridTargets, ImagePairs
from ..targets.gt_masks import downsample_masks
from .base import MaskSegmentor


class GridSegmentor(MaskSegmentor):
    """Assigns cells, sums losses and selects instances; a method says what masks are made of.

    Args:
        num_grids: S of each level.
        level_features, level_strides: names of the head's levels, and the strides it works at.
        mask_stride: stride of the masks in inference.
        assigner, criterion: training.
        selector: inference.
        base: arguments of `MaskSegmentor`.
    """

    def __init__(
        self,
        *,
        num_grids: list[int],
        level_features: list[str],
        level_strides: list[int],
        mask_stride: int,
        assigner: GridAssigner,
        criterion: GridCriterion,
        selector: Selector,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        if self.norm_eval:
            fold_fixed_norms(self.backbone)
        self.num_grids = num_grids
        self.level_features = level_features
        self.level_strides = level_strides
        self.mask_stride = mask_stride
        self.assigner = assigner
        self.criterion = criterion
        self.selector = selector

    @classmethod
    def grid_config(cls, cfg: CfgNode, key: str, classes: int) -> dict[str, Any]:
        """Returns this class's own arguments, but for the mask stride and the criterion.

        Args:
            cfg: the configuration.
            key: "MODEL.SOLO" or "MODEL.SOLOV2".
            classes: K.
        """
        method = get_key(cfg, key)
        base = cls.base_config(cfg)
        shapes = base["backbone"].output_shape()
        check_features(f"{key}.INSTANCE_IN_FEATURES", method.INSTANCE_IN_FEATURES, shapes)
        check_channels(
            f"{key}.INSTANCE_IN_CHANNELS",
            method.INSTANCE_IN_CHANNELS,
            256,
            shapes[method.INSTANCE_IN_FEATURES[0]].channels,
        )
        return {
            **base,
            "num_grids": method.NUM_GRIDS,
            "level_features": method.INSTANCE_IN_FEATURES,
            "level_strides": method.FPN_INSTANCE_STRIDES,
            "assigner": GridAssigner.from_config(method, classes),
            "selector": Selector.from_config(method),
        }

    @abstractmethod
    def run_head(
        self, features: dict[str, Tensor], padded_size: tuple[int, int]
    ) -> tuple[list[Tensor], Sequence[Tensor]]:
        """Returns category logits, L x [B, K, S, S], and what masks are made of, each [B, ...]."""

    def shrink_masks(self, gt_masks: list[Tensor], padded_size: tuple[int, int]) -> Any:
        """Returns the true masks as `mask_losses` needs them: here all, at `mask_stride`.

        Args:
            gt_masks: bool [g, h, w] of each image before padding.
            padded_size: (height, width) of the network's input.
        """
        return downsample_masks(gt_masks, padded_size, self.mask_stride)

    @abstractmethod
    def mask_losses(self, masks: Sequence[Tensor], pairs: ImagePairs, small_masks: Any) -> Tensor:
        """Returns the mask loss of every pair of one image, float32 [P].

        Args:
            masks: of `run_head`, the image's part.
            pairs: the image's, whose objects are among those of the batch.
            small_masks: of `shrink_masks`.
        """

    @abstractmethod
    def decode(self, masks: Sequence[Tensor], size: tuple[int, int], cells: Tensor) -> Tensor:
        """Returns mask probabilities, float32 [n, *size].

        Args:
            masks: of `run_head`, the image's part.
            size: of the masks, at `mask_stride`.
            cells: int64 [n], among the cells of all levels.
        """

    def packer(self, masks: Sequence[Tensor]) -> Pack | None:
        """Returns what `Selector` takes for `pack`, where a method has it; the rest as `decode`."""
        return None

    def decode_fixed(self, masks: Sequence[Tensor], size: tuple[int, int], cells: Tensor) -> Tensor:
        """Does what `decode` does with steps that no cell's value changes, as exporting needs."""
        return self.decode(masks, size, cells)

    def aligned_levels(
        self, features: dict[str, Tensor], padded_size: tuple[int, int]
    ) -> list[Tensor]:
        """Returns the head's levels at the head's strides."""
        levels = [features[name] for name in self.level_features]
        return align_levels(levels, self.level_strides, padded_size)

    @property
    def first_cells(self) -> list[int]:
        """The index of every level's first cell among the cells of all levels."""
        offsets = [0]
        for side in self.num_grids[:-1]:
            offsets.append(offsets[-1] + side * side)
        return offsets

    def prepare_targets(
        self, gt_instances: list[Instances], padded_size: tuple[int, int]
    ) -> tuple[BatchGridTargets, Any]:
        """Returns what the batch asks of the grids, and what `shrink_masks` does."""
        gt_masks = [gt.gt_masks.tensor for gt in gt_instances]
        boxes = [gt.gt_boxes.tensor for gt in gt_instances]
        classes = [gt.gt_classes for gt in gt_instances]
        cells = self.assigner.assign(boxes, classes, gt_masks, padded_size)
        return cells, self.shrink_masks(gt_masks, padded_size)

    def losses(
        self,
        features: dict[str, Tensor],
        targets: tuple[BatchGridTargets, Any],
        padded_size: tuple[int, int],
    ) -> dict[str, Tensor]:
        cells, small_masks = targets
        category_logits, masks = self.run_head(features, padded_size)
        mask_losses = [
            self.mask_losses(image_masks, pairs, small_masks)
            for image_masks, pairs in zip(image_by_image(masks), cells.pairs())
        ]
        return self.criterion(category_logits, cells.labels, torch.cat(mask_losses))

    def predict(
        self,
        features: dict[str, Tensor],
        padded_size: tuple[int, int],
        image_sizes: list[tuple[int, int]],
        output_sizes: list[tuple[int, int]],
    ) -> list[dict[str, Any]]:
        category_logits, masks = self.run_head(features, padded_size)
        images = zip(
            image_by_image(masks), _cell_scores(category_logits), image_sizes, output_sizes
        )
        return [
            {"instances": self.select(image_masks, cell_scores, padded_size, *sizes)}
            for image_masks, cell_scores, *sizes in images
        ]

    def predict_fixed(
        self,
        features: dict[str, Tensor],
        padded_size: tuple[int, int],
        score_threshold: float | Tensor | None,
        image_sizes: Tensor | None,
    ) -> dict[str, Tensor]:
        """Returns `scores`, `classes` and `masks`: see `FixedInstances`, with B images in front."""
        category_logits, masks = self.run_head(features, padded_size)
        size = (padded_size[0] // self.mask_stride, padded_size[1] // self.mask_stride)
        with torch.autocast(self.device.type, enabled=False):
            instances = [
                select_fixed(
                    self.selector,
                    cell_scores,
                    self._cell_strides(),
                    partial(self.decode_fixed, image_masks, size),
                    score_threshold,
                )
                for image_masks, cell_scores in zip(
                    image_by_image(masks), _cell_scores(category_logits)
                )
            ]
        return stack_fixed(instances, FixedInstances._fields)

    def export_settings(self) -> dict[str, Any]:
        thresholds = {
            "score": self.selector.score_threshold,
            "mask": self.selector.mask_threshold,
            "keep": self.selector.update_threshold,
        }
        candidates = self.selector.pre_nms
        return {"task": "instances", "thresholds": thresholds, "candidates": candidates}

    def select(
        self,
        masks: Sequence[Tensor],
        cell_scores: Tensor,
        padded_size: tuple[int, int],
        image_size: tuple[int, int],
        output_size: tuple[int, int],
    ) -> Instances:
        """Returns the instances of one image: all that follows the network.

        Args:
            masks: of `run_head`, the image's part.
            cell_scores: float32 [C, K], probabilities after point NMS.
            padded_size, image_size, output_size: see `predict`.
        """
        size = (padded_size[0] // self.mask_stride, padded_size[1] // self.mask_stride)
        decode = partial(self.decode, masks, size)
        with torch.autocast(self.device.type, enabled=False):
            scores, classes, probabilities = self.selector(
                cell_scores, self._cell_strides(), decode, size, self.packer(masks)
            )
        binary, boxes = resize_masks_with_boxes(
            probabilities, padded_size, image_size, output_size, self.selector.mask_threshold
        )
        return make_instances(binary, scores, classes, boxes)

    def _cell_strides(self) -> Tensor:
        """Returns the stride of every cell's level, int64 [C]."""
        return torch.cat(
            [
                torch.full((side * side,), stride, device=self.device)
                for side, stride in zip(self.num_grids, self.level_strides)
            ]
        )


def image_by_image(masks: Sequence[Tensor]) -> Iterable[tuple[Tensor, ...]]:
    """Yields what belongs to one image after another, of tensors [B, ...].

    Unbound at once: the gradient of an index is a tensor of zeros of the whole batch's size.
    """
    return zip(*(part.unbind() for part in masks))


def _cell_scores(category_logits: list[Tensor]) -> Tensor:
    """Returns the probabilities of all levels' cells after point NMS, float32 [B, C, K]."""
    scores = [point_nms(level.float().sigmoid()).flatten(2) for level in category_logits]
    return torch.cat(scores, dim=2).transpose(1, 2)
