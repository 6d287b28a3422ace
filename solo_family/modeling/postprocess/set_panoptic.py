"""From SparseInst's masks to panoptic segments.

N masks, H W of the image that was asked for.
"""

from dataclasses import dataclass
from typing import Any

import torch
from detectron2.config import CfgNode
from torch import Tensor

from ...data.classes import num_classes, stuff_ids
from .panoptic import merge_panoptic
from .resize import ResizedMasks


@dataclass(frozen=True)
class PanopticMerge:
    """Panoptic segments of SparseInst's masks: ours, the paper names it as future work.

    Attributes:
        stuff_classes: classes without instances.
        object_threshold: the least score of a mask, exclusive.
        overlap_threshold: see `merge_panoptic`.
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

    def __call__(
        self, masks: ResizedMasks, scores: Tensor, classes: Tensor
    ) -> tuple[Tensor, list[dict[str, Any]]]:
        """Returns one image's `panoptic_seg`, of N probability maps; see `merge_panoptic`."""
        chosen = scores > self.object_threshold
        return merge_panoptic(
            masks[chosen],
            scores[chosen],
            classes[chosen],
            masks.output_size,
            stuff_classes=self.stuff_classes,
            overlap_threshold=self.overlap_threshold,
        )

    def things(self, classes: Tensor) -> Tensor:
        """Returns which of some classes, int64 [N], are things: bool [N]."""
        return ~torch.isin(classes, classes.new_tensor(self.stuff_classes))
