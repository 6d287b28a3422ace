"""Build the model that SOLO, Decoupled SOLO and SOLOv2 share: every grid cell may be an object.

B images, g objects of one image, L levels, S grid side, K classes, C cells of all levels, P pairs
of a positive cell and an object, h w size of the masks.
"""

from abc import abstractmethod
from collections.abc import Hashable
from typing import Any, NamedTuple

import torch
from detectron2.config import CfgNode
from detectron2.structures import Instances
from torch import Tensor, nn

from ...config.rules import check_channels, get_key
from ...modeling.base import MaskSegmentor
from ...modeling.gt_masks import boxes_of, downsample_masks
from ...modeling.layers import ConvTower
from ...modeling.normalizer import LossCount
from ...modeling.shapes import check_features
from ...ops.resize import resize_bilinear
from .assigner import GridAssigner
from .category_branch import cell_scores_of
from .config import check_level_strides
from .criterion import GridCriterion
from .instances import rank_images, select_images
from .layout import GridLayout, make_grid
from .local_masks import decode_locally
from .mask_decoder import Grid, GridOutputs, MaskDecoder
from .selection import Selection, Selector
from .selection_at_once import Ranked
from .selection_traceable import select_traceable
from .targets import BatchGridTargets, ImagePairs


class ScoredCells(NamedTuple):
    """Hold what is computed for a batch before the host waits for a GPU.

    Attributes:
        outputs: the head's predictions.
        cell_scores: float32 [B, C, K], probabilities after point NMS.
        ranked: the candidates of every image; None if ranking them would have to wait.
    """

    outputs: GridOutputs
    cell_scores: Tensor
    ranked: list[Ranked] | None


class GridSegmentor(MaskSegmentor):
    """Assign objects to cells, compute the losses and select the instances.

    A method adds the head (`predict_cells`), the loss of its masks (`mask_losses`), and a decoder
    that computes the masks of cells.

    Args:
        decoder: computes masks from the head's predictions.
        layout: how many cells each level has.
        level_features: names of the feature levels that the head uses.
        level_strides: the strides to which these levels are resized.
        mask_stride: stride of the masks at inference.
        assigner: computes the targets of training.
        criterion: computes the losses.
        selector: the rules by which inference selects instances.
        base: the arguments of `MaskSegmentor`.
    """

    def __init__(
        self,
        *,
        decoder: MaskDecoder[Any],
        layout: GridLayout,
        level_features: list[str],
        level_strides: list[int],
        mask_stride: int,
        assigner: GridAssigner,
        criterion: GridCriterion,
        selector: Selector,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        self.decoder = decoder
        self.layout = layout
        self.num_grids = list(layout.sides)
        self.level_features = level_features
        self.level_strides = level_strides
        self.mask_stride = mask_stride
        self.assigner = assigner
        self.criterion = criterion
        self.selector = selector

    @classmethod
    def grid_config(
        cls, cfg: CfgNode, key: str, classes: int, *, masked_levels: bool = False
    ) -> dict[str, Any]:
        """Return the arguments of `GridSegmentor`, without decoder, mask stride and criterion.

        Args:
            cfg: the configuration.
            key: "MODEL.SOLO" or "MODEL.SOLOV2".
            classes: K.
            masked_levels: whether each level has masks of its own.
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
        strides, multiple = method.FPN_INSTANCE_STRIDES, base["size_divisibility"]
        check_level_strides(key, strides, multiple, masked_levels)
        return {
            **base,
            "layout": GridLayout.from_config(method),
            "level_features": method.INSTANCE_IN_FEATURES,
            "level_strides": strides,
            "assigner": GridAssigner.from_config(method, classes),
            "selector": Selector.from_config(cfg, key),
        }

    @abstractmethod
    def predict_cells(self, levels: list[Tensor], features: dict[str, Tensor]) -> GridOutputs:
        """Return the head's predictions.

        Args:
            levels: L x [B, channels, H_l, W_l], the head's levels at its strides.
            features: the backbone's features by name.
        """

    def shrink_masks(self, gt_masks: list[Tensor], padded_size: tuple[int, int]) -> Any:
        """Return the true masks in the form that `mask_losses` takes: here, at `mask_stride`.

        Args:
            gt_masks: per image, bool [g, height, width] before padding.
            padded_size: (height, width) of the network's input.
        """
        return downsample_masks(gt_masks, padded_size, self.mask_stride)

    @abstractmethod
    def mask_losses(self, outputs: Any, pairs: ImagePairs, small_masks: Any) -> Tensor:
        """Return the mask loss of every pair of one image, float32 [P].

        Args:
            outputs: the head's predictions for the image.
            pairs: the pairs of the image; they number the objects of the whole batch.
            small_masks: the result of `shrink_masks`.
        """

    def run_head(self, features: dict[str, Tensor], padded_size: tuple[int, int]) -> GridOutputs:
        """Resize the levels bilinearly to the head's strides and return the head's predictions.

        With the published strides, P2 is halved and P6 is upsampled to P5's size (official code).
        """
        height, width = padded_size
        levels = [
            resize_bilinear(features[name], (height // stride, width // stride))
            for name, stride in zip(self.level_features, self.level_strides)
        ]
        return self.predict_cells(levels, features)

    @property
    def one_size_formats(self) -> tuple[str, ...]:  # type: ignore[override]
        """Return the formats that take one size: torch.export fixes the number of growing cells."""
        return ("torch_export",) if self.layout.reference is not None else ()

    def grid(self, padded_size: tuple[int, int]) -> Grid:
        """Return the cells of all levels."""
        shapes = self.layout.shapes(padded_size)
        grows = self.layout.reference is not None
        return make_grid(self.pixel_mean, shapes, tuple(self.level_strides), grows)

    def selection(self, padded_size: tuple[int, int]) -> Selection:
        """Return the rules, the decoder and the grid, from which every way of selecting starts."""
        where = (self.layout, self.pixel_mean, padded_size, self.mask_stride)
        return Selection(
            self.selector, decode_locally(self.decoder, *where), self.grid(padded_size)
        )

    def mask_size(self, padded_size: tuple[int, int]) -> tuple[int, int]:
        """Return (h, w) of the masks at inference."""
        return padded_size[0] // self.mask_stride, padded_size[1] // self.mask_stride

    @property
    def recomputed_parts(self) -> list[nn.Module]:
        """The towers; see `MethodInterface.recomputed_parts`."""
        return [part for part in self.modules() if isinstance(part, ConvTower)]

    def prepare_targets(
        self, gt_instances: list[Instances], padded_size: tuple[int, int]
    ) -> tuple[BatchGridTargets, Any]:
        """Return the targets of the cells, and the true masks as `shrink_masks` returns them."""
        cells = self._assign(gt_instances, padded_size)
        return cells, self.shrink_masks([gt.gt_masks.tensor for gt in gt_instances], padded_size)

    def _assign(
        self, gt_instances: list[Instances], padded_size: tuple[int, int]
    ) -> BatchGridTargets:
        gt_masks = [gt.gt_masks.tensor for gt in gt_instances]
        boxes = [boxes_of(gt) for gt in gt_instances]
        classes = [gt.gt_classes for gt in gt_instances]
        return self.assigner.assign(boxes, classes, gt_masks, padded_size)

    def loss_counts(
        self, gt_instances: list[Instances], padded_size: tuple[int, int]
    ) -> dict[str, LossCount]:
        """Return what the losses are divided by; see `MaskSegmentor.loss_counts`."""
        cells = self._assign(gt_instances, padded_size)
        return self.criterion.counts(cells.labels, cells.positive.sum())

    def losses(
        self,
        features: dict[str, Tensor],
        targets: tuple[BatchGridTargets, Any],
        padded_size: tuple[int, int],
    ) -> dict[str, Tensor]:
        """Return the class loss and the mask loss; see `MaskSegmentor.losses`."""
        cells, small_masks = targets
        outputs = self.run_head(features, padded_size)
        mask_losses = [
            self.mask_losses(image, pairs, small_masks)
            for image, pairs in zip(outputs.images(), cells.pairs())
        ]
        return self.criterion(outputs.category_logits, cells.labels, torch.cat(mask_losses))

    def fixed_part(self, features: dict[str, Tensor], padded_size: tuple[int, int]) -> ScoredCells:
        """Score the cells, and rank them where that needs no wait; see `MaskSegmentor`."""
        outputs = self.run_head(features, padded_size)
        scores = cell_scores_of(outputs.category_logits)
        selection = self.selection(padded_size)
        ranked = rank_images(selection, outputs, scores, self.mask_size(padded_size))
        return ScoredCells(outputs, scores, ranked)

    @property
    def fixed_settings(self) -> Hashable:
        """The rules of selection, which `fixed_part` depends on."""
        return self.selector

    def results(
        self,
        fixed: ScoredCells,
        padded_size: tuple[int, int],
        image_sizes: list[tuple[int, int]],
        output_sizes: list[tuple[int, int]],
    ) -> list[dict[str, Any]]:
        """Return the instances of every image; see `MaskSegmentor.results`."""
        sizes = (self.mask_size(padded_size), padded_size, image_sizes, output_sizes)
        outputs, scores, ranked = fixed
        selection = self.selection(padded_size)
        selected = select_images(selection, outputs, scores, *sizes, ranked=ranked)
        return [{"instances": instances} for instances in selected]

    def predict_fixed(
        self,
        features: dict[str, Tensor],
        padded_size: tuple[int, int],
        score_threshold: float | Tensor | None,
        image_sizes: Tensor | None,
    ) -> dict[str, Tensor]:
        """Return the fields of `FixedInstances`."""
        outputs = self.run_head(features, padded_size)
        scores = cell_scores_of(outputs.category_logits)
        size, selection = self.mask_size(padded_size), self.selection(padded_size)
        with torch.autocast(self.device.type, enabled=False):
            found = select_traceable(selection, outputs, scores, size, score_threshold)
        return found._asdict()

    def export_settings(self) -> dict[str, Any]:
        """Return the task, the thresholds and the number of candidates for the export's header."""
        thresholds = {
            "score": self.selector.score_threshold,
            "mask": self.selector.mask_threshold,
            "keep": self.selector.update_threshold,
        }
        candidates = self.selector.pre_nms
        return {"task": "instances", "thresholds": thresholds, "candidates": candidates}
