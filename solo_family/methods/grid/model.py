"""What SOLO, Decoupled SOLO and SOLOv2 have in common: every cell of a grid may be an object.

B images, L levels, S grid side, K classes, C cells of all levels, P pairs of a positive cell and an
object.
"""

from abc import abstractmethod
from collections.abc import Hashable, Iterable, Sequence
from functools import partial
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from detectron2.config import CfgNode
from detectron2.structures import Instances
from torch import Tensor

from ...config.rules import check_channels, check_features, get_key
from ...modeling.base import MaskSegmentor
from ...modeling.fixed_instances import FixedInstances, stack_fixed
from ...modeling.gt_masks import downsample_masks
from ...ops.packed_masks import PackedMasks
from .assigner import GridAssigner
from .cell_scores import cell_scores_of
from .criterion import GridCriterion
from .fixed_selection import select_fixed
from .instances import image_by_image, pack_in_chunks, rank_images, select_images
from .levels import align_levels
from .selection import Pack, Selector
from .selection_at_once import Claims, Grid, Ranked
from .targets import BatchGridTargets, ImagePairs


class GridOutputs(NamedTuple):
    """What is known of images before the host waits.

    Attributes:
        cell_scores: float32 [B, C, K], probabilities after point NMS.
        masks: what masks are made of, each [B, ...].
        ranked: the candidates of every image; None where to rank them needs a wait.
    """

    cell_scores: Tensor
    masks: Sequence[Tensor]
    ranked: list[Ranked] | None


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
        self.num_grids = num_grids
        self.level_features = level_features
        self.level_strides = level_strides
        self.mask_stride = mask_stride
        self.assigner = assigner
        self.criterion = criterion
        self.selector = selector
        self.cell_strides: Tensor
        self.level_ends: Tensor
        cells = [side * side for side in num_grids]
        strides = [stride for stride, count in zip(level_strides, cells) for _ in range(count)]
        self.register_buffer("cell_strides", torch.tensor(strides), False)
        self.register_buffer("level_ends", torch.tensor(list(accumulate(cells))), False)

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

    def measure_at_once(
        self, masks: Sequence[Tensor], size: tuple[int, int], claims: Claims
    ) -> Iterable[PackedMasks]:
        """Yields every image's masks of the first cells, all that are claimed at least.

        The host waits once, for how many are claimed; a method may do without.

        Args:
            masks: of `run_head`.
            size: see `decode`.
            claims: of B images.
        """
        counts = claims.counts[:, -1].tolist()
        for image, cells, count in zip(image_by_image(masks), claims.cells, counts):
            decode = partial(self.decode, image, size)
            yield pack_in_chunks(decode, cells[:count], size, self.selector.mask_threshold)

    @property
    def measures_at_once(self) -> bool:
        """Whether `measure_at_once` does without waiting."""
        return False

    def decode_kept(
        self, masks: Sequence[Tensor], size: tuple[int, int], cells: Tensor, counts: list[int]
    ) -> Tensor:
        """Does what `decode` does where it is known how many cells are of the levels up to each."""
        return self.decode(masks, size, cells)

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
    def grid(self) -> Grid:
        """The cells of all levels."""
        return Grid(self.cell_strides, self.level_ends)

    @property
    def first_cells(self) -> list[int]:
        """The index of every level's first cell among the cells of all levels."""
        return [0, *accumulate(side * side for side in self.num_grids[:-1])]

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

    def fixed_part(self, features: dict[str, Tensor], padded_size: tuple[int, int]) -> GridOutputs:
        category_logits, masks = self.run_head(features, padded_size)
        cell_scores = cell_scores_of(category_logits)
        return GridOutputs(cell_scores, masks, rank_images(self, masks, cell_scores, padded_size))

    @property
    def fixed_settings(self) -> Hashable:
        return self.selector

    def results(
        self,
        fixed: GridOutputs,
        padded_size: tuple[int, int],
        image_sizes: list[tuple[int, int]],
        output_sizes: list[tuple[int, int]],
    ) -> list[dict[str, Any]]:
        scores, masks, ranked = fixed
        sizes = (padded_size, image_sizes, output_sizes)
        found = select_images(self, masks, scores, *sizes, ranked=ranked)
        return [{"instances": instances} for instances in found]

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
        images = zip(image_by_image(masks), cell_scores_of(category_logits))
        with torch.autocast(self.device.type, enabled=False):
            instances = [
                select_fixed(
                    self.selector,
                    cell_scores,
                    self.cell_strides,
                    partial(self.decode_fixed, image_masks, size),
                    score_threshold,
                )
                for image_masks, cell_scores in images
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
        batch, sizes = [part[None] for part in masks], ([image_size], [output_size])
        return next(select_images(self, batch, cell_scores[None], padded_size, *sizes))
