"""From SparseInst's masks to panoptic segments.

N masks, H W of the image that was asked for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from detectron2.config import CfgNode
from torch import Tensor

from ...data.formats.classes import num_classes, stuff_ids
from ...modeling.layers.remembered import constant
from ...modeling.panoptic import SegmentAssignment, assign_segments, number_segments
from ...modeling.transfer import to_host
from ...ops.resize import ResizedMasks


@dataclass(frozen=True)
class PanopticMerge:
    """Panoptic segments of SparseInst's masks: ours, the paper names it as future work.

    Attributes:
        stuff_classes: classes without instances.
        object_threshold: the least score of a mask, exclusive.
        overlap_threshold: see `assign_segments`.
    """

    stuff_classes: tuple[int, ...]
    object_threshold: float
    overlap_threshold: float

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "PanopticMerge":
        sparse_inst = cfg.MODEL.SPARSE_INST
        count = num_classes(cfg, "MODEL.SPARSE_INST.DECODER.NUM_CLASSES")
        return cls(
            stuff_classes=stuff_ids(cfg, count),
            object_threshold=sparse_inst.OBJECT_MASK_THRESHOLD,
            overlap_threshold=sparse_inst.OVERLAP_THRESHOLD,
        )

    def assign(self, masks: ResizedMasks, scores: Tensor, classes: Tensor) -> SegmentAssignment:
        """Assign one image's pixels to N probability maps, all of which take part."""
        return assign_segments(masks, scores, classes, masks.output_size, self.overlap_threshold)

    def number(
        self, assignments: Sequence[SegmentAssignment]
    ) -> list[tuple[Tensor, list[dict[str, Any]]]]:
        """Return a batch's `panoptic_seg`s; see `number_segments`."""
        tables = to_host([image.table for image in assignments])
        return number_segments(assignments, tables, self.stuff_classes)

    def things(self, classes: Tensor) -> Tensor:
        """Return which of some classes, int64 [..., N], are things: bool [..., N]."""
        # Not torch.isin, which waits for a GPU where there are many classes.
        stuff = constant(classes, self.stuff_classes, classes.dtype)
        return ~(classes[..., None] == stuff).any(-1)
