"""From SparseInst's predictions to the masks that are kept (arXiv 2203.12827, section 3.5).

N predictions, K classes, n kept ones, h w of the masks.
"""

from dataclasses import dataclass

import torch
from detectron2.config import CfgNode
from torch import Tensor

from ...ops.matrix_nms import matrix_nms
from ...ops.packed_masks import pack_masks


@dataclass(frozen=True)
class SetSelector:
    """Scores one image's predictions and keeps the best; there is nothing to suppress.

    Attributes:
        class_threshold: predictions are kept whose score is greater.
        mask_threshold: a mask's pixels are those whose probability is greater.
        max_detections: the best so many are kept.
        nms: "" or "matrix": duplicates that survive the matching are real in crowded scenes.
        nms_kernel, nms_sigma, update_threshold, class_agnostic: see `matrix_nms`.
    """

    class_threshold: float = 0.005
    mask_threshold: float = 0.45
    max_detections: int = 100
    nms: str = ""
    nms_kernel: str = "gaussian"
    nms_sigma: float = 2.0
    update_threshold: float = 0.005
    class_agnostic: bool = False

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "SetSelector":
        """Reads `cfg.MODEL.SPARSE_INST`."""
        return cls(
            class_threshold=cfg.CLS_THRESHOLD,
            mask_threshold=cfg.MASK_THRESHOLD,
            max_detections=cfg.MAX_DETECTIONS,
            nms=cfg.NMS_TYPE,
            nms_kernel=cfg.NMS_KERNEL,
            nms_sigma=cfg.NMS_SIGMA,
            update_threshold=cfg.UPDATE_THR,
            class_agnostic=cfg.CLASS_AGNOSTIC_NMS,
        )

    def __call__(
        self, class_logits: Tensor, mask_logits: Tensor, objectness_logits: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Selects one image's instances.

        Args:
            class_logits: float32 [N, K].
            mask_logits: float32 [N, h, w].
            objectness_logits: float32 [N].

        Returns:
            scores: float32 [n], descending.
            classes: int64 [n].
            masks: float32 [n, h, w], probabilities.
            indices: int64 [n], of the predictions.
        """
        # The square root of a product is monotone: the best class is that of the best logit.
        best, classes = class_logits.max(-1)
        scores = (best.sigmoid() * objectness_logits.sigmoid()).sqrt()
        indices = (scores > self.class_threshold).nonzero(as_tuple=True)[0]
        masks = mask_logits[indices].sigmoid_()
        words, _, maskness = pack_masks(masks, self.mask_threshold)
        scores, classes = scores[indices] * maskness, classes[indices]
        order, scores = self._best(scores, classes, words)
        return scores, classes[order], masks[order], indices[order]

    def _best(self, scores: Tensor, classes: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
        if not self.nms:
            scores, order = scores.sort(descending=True, stable=True)
            return order[: self.max_detections], scores[: self.max_detections]
        with torch.autocast(words.device.type, enabled=False):
            return matrix_nms(
                words,
                classes,
                scores,
                kernel=self.nms_kernel,
                sigma=self.nms_sigma,
                pre_nms=None,
                post_nms=self.max_detections,
                threshold=self.update_threshold,
                class_agnostic=self.class_agnostic,
            )
