"""Merge SparseInst's masks to panoptic segments.

N masks, H W of the requested output.
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
    """Merge SparseInst's masks to panoptic segments, which the paper leaves to future work.

    Attributes:
        stuff_classes: classes without instances.
        object_threshold: the lowest score of a mask, exclusive.
        overlap_threshold: see `assign_segments`.
    """

    stuff_classes: tuple[int, ...]
    object_threshold: float
    overlap_threshold: float

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "PanopticMerge":
        """Read `cfg.MODEL.SPARSE_INST` and the stuff classes."""
        sparse_inst = cfg.MODEL.SPARSE_INST
        count = num_classes(cfg, "MODEL.SPARSE_INST.DECODER.NUM_CLASSES")
        return cls(
            stuff_classes=stuff_ids(cfg, count),
            object_threshold=sparse_inst.OBJECT_MASK_THRESHOLD,
            overlap_threshold=sparse_inst.OVERLAP_THRESHOLD,
        )

    def assign(self, masks: ResizedMasks, scores: Tensor, classes: Tensor) -> SegmentAssignment:
        """Assign one image's pixels to N probability maps, all of which take part."""
        soft, size = masks.rows() if masks.by_rows else masks, masks.output_size
        return assign_segments(soft, scores, classes, size, self.overlap_threshold)

    def number(
        self, assignments: Sequence[SegmentAssignment]
    ) -> list[tuple[Tensor, list[dict[str, Any]]]]:
        """Return a batch's `panoptic_seg`s; see `number_segments`."""
        tables = to_host([image.table for image in assignments])
        return number_segments(assignments, tables, self.stuff_classes)

    def things(self, classes: Tensor) -> Tensor:
        """Return which of the given classes, int64 [..., N], are things: bool [..., N]."""
        # Not torch.isin, which waits for a GPU if there are many classes.
        stuff = constant(classes, self.stuff_classes, classes.dtype)
        return ~(classes[..., None] == stuff).any(-1)
