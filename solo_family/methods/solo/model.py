"""SOLO and Decoupled SOLO (Wang et al., ECCV 2020, arXiv 1912.04488).

B images, L levels, S grid side, P pairs of a positive cell and an object.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from torch import Tensor

from ...data.formats.classes import num_classes
from ...modeling.gt_masks import downsample_masks
from ...ops.packed_masks import PackedMasks, empty_packed
from ..grid.category_branch import CategoryBranch
from ..grid.criterion import GridCriterion
from ..grid.instances import join_masks, pack_in_chunks
from ..grid.mask_losses import MaskLoss, in_parts, make_mask_loss
from ..grid.model import GridSegmentor, image_by_image
from ..grid.selection import Decode
from ..grid.selection_at_once import Claims
from ..grid.targets import ImagePairs
from .config import HEADS
from .decoupled_head import DecoupledSOLOHead
from .head import SOLOHead

_HEAD_CLASSES: dict[str, Callable[..., SOLOHead | DecoupledSOLOHead]] = {
    "SOLOHead": SOLOHead,
    "DecoupledSOLOHead": DecoupledSOLOHead,
    "DecoupledSOLOLightHead": partial(DecoupledSOLOHead, shared_tower=True),
}


class SOLO(GridSegmentor):
    """Segments objects by location: each grid cell has a category and a mask of the whole image.

    Masks are computed at twice the head's resolution, and only those that are needed: of positive
    cells in training, of candidates in inference.

    Args:
        head: categories and masks.
        mask_loss: of one mask.
        grid: arguments of `GridSegmentor`.
    """

    @configurable
    def __init__(
        self, *, head: SOLOHead | DecoupledSOLOHead, mask_loss: MaskLoss, **grid: Any
    ) -> None:
        super().__init__(**grid)
        self.head = head
        self.mask_loss = mask_loss

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
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
        mask_loss, mask_weight = make_mask_loss(solo.LOSS)
        name = solo.HEAD_NAME or HEADS[cfg.MODEL.META_ARCHITECTURE][0]
        return {
            **grid,
            "mask_stride": _output_stride(solo.FPN_INSTANCE_STRIDES[0]),
            "head": _HEAD_CLASSES[name](
                category_branch=branch,
                num_grids=solo.NUM_GRIDS,
                coord_conv=solo.USE_COORD_CONV,
                **tower,
            ),
            "mask_loss": mask_loss,
            "criterion": GridCriterion.from_config(
                solo,
                num_classes=classes,
                mask_weight=mask_weight,
                globally=cfg.SOLVER.NORMALIZE_LOSS_GLOBALLY,
            ),
        }

    def run_head(
        self, features: dict[str, Tensor], padded_size: tuple[int, int]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Runs the head; its second output, per level, is what masks are made of."""
        return self.head(self.aligned_levels(features, padded_size))

    def shrink_masks(
        self, gt_masks: list[Tensor], padded_size: tuple[int, int]
    ) -> dict[int, Tensor]:
        # Levels of one stride share their targets.
        return {
            stride: downsample_masks(gt_masks, padded_size, _output_stride(stride))
            for stride in set(self.level_strides)
        }

    def mask_losses(
        self, masks: Sequence[Tensor], pairs: ImagePairs, small_masks: dict[int, Tensor]
    ) -> Tensor:
        losses = []
        by_level = (part.split(pairs.per_level) for part in (pairs.objects, pairs.cells))
        for level, (objects, cells) in enumerate(zip(*by_level)):
            true_masks = small_masks[self.level_strides[level]]
            level_losses = partial(self._level_losses, level, masks[level], true_masks)
            losses.append(in_parts(level_losses, cells - self.first_cells[level], objects))
        return torch.cat(losses)

    def _level_losses(
        self, level: int, masks: Tensor, gt_masks: Tensor, cells: Tensor, objects: Tensor
    ) -> Tensor:
        return self.mask_loss(self.head.mask_logits(level, masks, cells), gt_masks[objects])

    def decode(self, masks: Sequence[Tensor], size: tuple[int, int], cells: Tensor) -> Tensor:
        soft = torch.empty((len(cells), *size), device=cells.device)
        for level, (first, side) in enumerate(zip(self.first_cells, self.num_grids)):
            here = ((cells >= first) & (cells < first + side * side)).nonzero()[:, 0]
            level_masks = masks[level].float()
            if len(here):
                soft[here] = self.head.mask_probabilities(
                    level, level_masks, cells[here] - first, size
                )
        return soft

    def measure_at_once(
        self, masks: Sequence[Tensor], size: tuple[int, int], claims: Claims
    ) -> Iterator[PackedMasks]:
        # A wait: what masks are made of differs in size from level to level.
        counts = claims.counts.tolist()
        for image, *cells in zip(image_by_image(masks), claims.cells, counts):
            yield self._pack(image, size, *cells)

    def _pack(
        self, masks: Sequence[Tensor], size: tuple[int, int], cells: Tensor, counts: list[int]
    ) -> PackedMasks:
        """Packs the masks of one image's claimed cells, a part of them at a time."""
        threshold = self.selector.mask_threshold
        parts = [
            pack_in_chunks(decode, level_cells, size, threshold)
            for _, level_cells, decode in self._by_level(masks, size, cells, counts)
        ]
        return join_masks(parts) if parts else empty_packed(masks[0], 0, size[0] * size[1])

    def decode_kept(
        self, masks: Sequence[Tensor], size: tuple[int, int], cells: Tensor, counts: list[int]
    ) -> Tensor:
        soft = torch.empty((len(cells), *size), device=cells.device)
        cells, order = cells.sort()
        for part, level_cells, decode in self._by_level(masks, size, cells, counts):
            soft[order[part]] = decode(level_cells)
        return soft

    def _by_level(
        self, masks: Sequence[Tensor], size: tuple[int, int], cells: Tensor, counts: list[int]
    ) -> Iterator[tuple[slice, Tensor, Decode]]:
        """Yields which of ascending cells are of each level that has some.

        Yields:
            which of `cells`; these, among the cells of their level; what decodes them.
        """
        for level, (start, end) in enumerate(pairwise([0, *counts])):
            if end > start:
                part = slice(start, end)
                decode = self.head.decoder(level, masks[level].float(), size)
                yield part, cells[part] - self.first_cells[level], decode

    def decode_fixed(self, masks: Sequence[Tensor], size: tuple[int, int], cells: Tensor) -> Tensor:
        return self.head.fixed_probabilities([level.float() for level in masks], cells, size)


class DecoupledSOLO(SOLO):
    """SOLO whose masks are products of a column's and a row's map; only the head differs."""


def _output_stride(stride: int) -> int:
    """Returns the stride of a level's masks: the tower's output is doubled."""
    return stride // 2
