"""Make the scores of every class when they are read (see `class_maps`).

N masks, K classes, H W of the requested output.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from ...ops.label_maps import class_of_pixels
from ...ops.resize import ResizedMasks
from ...ops.resize_rows import MaskRows
from .semantic_maps import most_probable, probability_maps

# Computes float32 [K, H, W] of probabilities and masks.
Segment = Callable[[Tensor, ResizedMasks], Tensor]


@dataclass(frozen=True)
class LateScores:
    """What `sem_seg` of one image is made of: of 133 classes, a twentieth of its memory.

    Attributes:
        probabilities: float32 [N, K + 1] of the classes, "no object" last.
        masks: the masks' logits.
        segment: makes the scores.
        marginal: whether that is `marginalise`, of masks that were resized before.
    """

    probabilities: Tensor
    masks: ResizedMasks
    segment: Segment
    marginal: bool

    @property
    def shape(self) -> tuple[int, int, int]:
        """K, H, W."""
        return (self.probabilities.shape[1] - 1, *self.masks.output_size)

    def __len__(self) -> int:
        """Return the number of classes."""
        return self.shape[0]

    def to(self, device: str | torch.device) -> "LateScores":
        """Return the same on a device."""
        masks = replace(self.masks, masks=self.masks.masks.to(device))
        return replace(self, probabilities=self.probabilities.to(device), masks=masks)

    def made(self) -> Tensor:
        """Return the scores, float32 [K, H, W]; they are made each time."""
        with self._context():
            return self.segment(self.probabilities, self.masks)

    def argmax(self, dim: int = 0) -> Tensor:
        """Return the class of each pixel with the greatest score, int64 [H, W].

        On a CPU the scores are made for some rows at a time, and are never all in memory.
        """
        assert dim == 0
        return self._labels.clone()

    @cached_property
    def _labels(self) -> Tensor:
        if not self.marginal or not self.masks.by_rows:
            return class_of_pixels(self.made())
        with self._context():
            maps = probability_maps(self.masks)
            assert isinstance(maps, MaskRows)
            labels = most_probable(maps, self.probabilities, self.masks.output_size)
        # Of scores that are not finite, none is the greatest.
        return labels if labels.max() < len(self) else self.made().argmax(dim=0)

    def _context(self) -> torch.autocast:
        return torch.autocast(self.probabilities.device.type, enabled=False)
