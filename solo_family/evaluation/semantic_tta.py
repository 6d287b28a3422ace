"""Predict semantics with test-time augmentation: several sizes, each also flipped.

K classes, H W of the image.
"""

from copy import copy
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import transforms as T
from torch import Tensor, nn

from ..data.loading.augmentation import AtLeastOnePixel


class SemanticWithTTA(nn.Module):
    """Average a model's semantic scores over `TEST.AUG` (MaskFormer, arXiv 2107.06278, 4.2).

    Sizes are predicted one after the other, and only their sum is kept in memory.

    Args:
        model: returns `sem_seg`, for MaskFormer probabilities, at the requested size.
        min_sizes: lengths of the short edge, in pixels.
        max_size: the greatest length of the long edge, in pixels.
        flip: add the mirrored image of each.
        resize: what resizes; see `INPUT.RESIZE`.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        min_sizes: list[int],
        max_size: int,
        flip: bool,
        resize: str = "pillow",
    ) -> None:
        super().__init__()
        self.model = model
        # detectron2's evaluation restores the mode that it finds, in the model within too, which
        # may have been prepared for inference.
        self.training = model.training
        self.flip = flip
        self.resizes = [
            AtLeastOnePixel(T.ResizeShortestEdge([size, size], max_size), resize)
            for size in min_sizes
        ]

    @classmethod
    def from_config(cls, cfg: CfgNode, model: nn.Module) -> "SemanticWithTTA":
        """Read `TEST.AUG`."""
        aug = cfg.TEST.AUG
        return cls(
            model,
            min_sizes=list(aug.MIN_SIZES),
            max_size=aug.MAX_SIZE,
            flip=aug.FLIP,
            resize=cfg.INPUT.RESIZE,
        )

    @torch.no_grad()
    def forward(self, batched_inputs: list[dict[str, Any]]) -> list[dict[str, Tensor]]:
        """Return the averaged `sem_seg`, float32 [K, H, W], of each image.

        Args:
            batched_inputs: detectron2's inputs, with the original `height` and `width`.
        """
        return [{"sem_seg": self._average(item)} for item in batched_inputs]

    def _average(self, item: dict[str, Any]) -> Tensor:
        image = np.ascontiguousarray(item["image"].permute(1, 2, 0).cpu().numpy())
        size = {"height": image.shape[0], "width": image.shape[1]}
        total, count = None, 0
        for resize in self.resizes:
            resized = resize.get_transform(image).apply_image(image)
            tensor = torch.from_numpy(np.ascontiguousarray(resized.transpose(2, 0, 1)))
            for flipped in (False, True) if self.flip else (False,):
                given = {**size, **copy(item), "image": tensor.flip(2) if flipped else tensor}
                scores = self.model([given])[0]["sem_seg"]
                scores = scores.flip(2) if flipped else scores
                total = scores if total is None else total.add_(scores)
                count += 1
        assert total is not None
        return total.div_(count)
