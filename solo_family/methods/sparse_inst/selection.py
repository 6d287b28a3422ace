"""Select the masks to keep from SparseInst's predictions (arXiv 2203.12827, "Inference").

B images, N predictions, K classes, n kept ones, M ranked ones, P masks, h w of the masks.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from detectron2.config import CfgNode
from torch import Tensor

from ...config.caps import instances_per_image
from ...modeling import order
from ...modeling.fixed_instances import FixedInstances, decay_fixed, measure_fixed
from ...modeling.set_predictions import SetPredictions
from ...ops import pack_masks
from ...ops.compact import SoftMasks, TakenMasks
from ...ops.matrix_nms import matrix_nms_decay
from ...ops.take import take_rows


class SelectedMasks(NamedTuple):
    """The selected masks of one image, by descending score.

    Attributes:
        scores: float32 [n], descending.
        classes: int64 [n].
        masks: float32 [n, h, w], probabilities; a slice of them is a tensor.
        indices: int64 [n], of the predictions.
    """

    scores: Tensor
    classes: Tensor
    masks: SoftMasks
    indices: Tensor


@dataclass(frozen=True)
class SetRanking:
    """The sorted predictions of a batch; only the device knows yet how many of them are kept.

    Attributes:
        scores: float32 [B, M], M at most N; those of kept predictions are in descending order.
        classes, indices: int64 [B, M]; the indices are those of the predictions.
        places: int64 [B, M], indices of their masks.
        masks: float32 [B, P, h, w], probabilities, of all predictions that may be kept, unordered.
        count: int64 [B], how many are kept: the first ones.
    """

    scores: Tensor
    classes: Tensor
    indices: Tensor
    places: Tensor
    masks: Tensor
    count: Tensor

    def only(self, flags: Tensor) -> "SetRanking":
        """Keep only predictions whose flag, bool [B, M], is set as well."""
        places = torch.arange(flags.shape[1], device=flags.device)
        flags = flags & (places < self.count[:, None])
        first = order.set_first(flags)
        names = ("scores", "classes", "indices", "places")
        parts = {name: getattr(self, name).gather(1, first) for name in names}
        return replace(self, **parts, count=flags.sum(1))

    def best(self, image: int, count: int) -> SelectedMasks:
        """Return the first `count` predictions of an image."""
        masks = TakenMasks(self.masks[image], self.places[image, :count])
        scores, classes = self.scores[image, :count], self.classes[image, :count]
        return SelectedMasks(scores, classes, masks, self.indices[image, :count])


@dataclass(frozen=True)
class SetSelector:
    """Score predictions and keep the best; by default there is no NMS.

    Attributes:
        class_threshold: the lowest score of a kept prediction, exclusive.
        mask_threshold: the probability of a mask's pixels, exclusive.
        max_detections: the greatest number of predictions to keep.
        nms: "" or "matrix", for crowded scenes, in which the matching leaves duplicates.
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
        """Read `MODEL.SPARSE_INST`."""
        method = cfg.MODEL.SPARSE_INST
        return cls(
            class_threshold=method.CLS_THRESHOLD,
            mask_threshold=method.MASK_THRESHOLD,
            max_detections=instances_per_image(cfg, "MODEL.SPARSE_INST.MAX_DETECTIONS"),
            nms=method.NMS_TYPE,
            nms_kernel=method.NMS_KERNEL,
            nms_sigma=method.NMS_SIGMA,
            update_threshold=method.UPDATE_THR,
            class_agnostic=method.CLASS_AGNOSTIC_NMS,
        )

    def rank(self, predictions: SetPredictions) -> SetRanking:
        """Score and sort the predictions of a batch, without making the host wait.

        Args:
            predictions: the batch's predictions in float32, with objectness.
        """
        scores, classes = self._score(predictions)
        above = scores > self.class_threshold
        indices = None
        if order.waits(above):
            masks = predictions.mask_logits.sigmoid()
        else:
            # Only as many masks are read as the image with the most predictions has.
            indices = order.set_first(above)[:, : int(above.sum(1).max())]
            num_images, num_predictions = scores.shape
            parts = (scores, classes, above)
            scores, classes, above = (part.gather(1, indices) for part in parts)
            first = num_predictions * torch.arange(num_images, device=indices.device)
            rows = indices + first[:, None]
            masks = predictions.mask_logits.flatten(0, 1)[rows].sigmoid_()
        words, _, maskness = pack_masks(masks.flatten(0, 1), self.mask_threshold)
        # Sorted behind those that are kept with a score of 0.
        scores = torch.where(above, scores * maskness.view_as(scores), -1)
        places, scores, kept = self._best(scores, classes, words.unflatten(0, scores.shape), above)
        return SetRanking(
            scores=scores,
            classes=classes.gather(1, places),
            places=places,
            indices=places if indices is None else indices.gather(1, places),
            masks=masks,
            count=kept.sum(1),
        )

    def _best(
        self, scores: Tensor, classes: Tensor, words: Tensor, above: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the order, the scores in it, and which of them are kept: the first ones."""
        if not self.nms:
            scores, places = scores.sort(descending=True, stable=True)
            places, scores = places[:, : self.max_detections], scores[:, : self.max_detections]
            return places, scores, above.gather(1, places)
        with torch.autocast(words.device.type, enabled=False):
            decayed = [
                matrix_nms_decay(*image, self.nms_kernel, self.nms_sigma, self.class_agnostic)
                for image in zip(words, classes, scores)
            ]
        places, scores = (torch.stack(parts)[:, : self.max_detections] for parts in zip(*decayed))
        return places, scores, above.gather(1, places) & (scores >= self.update_threshold)

    def select_fixed(
        self, predictions: SetPredictions, score_threshold: float | Tensor | None
    ) -> FixedInstances:
        """Select as `rank` does, but traceably: no size depends on the image.

        Predictions below the threshold stay, with a score of 0.

        Args:
            predictions: the batch's predictions in float32, with objectness.
            score_threshold: replaces `class_threshold`, unless it is None.
        """
        threshold = self.class_threshold if score_threshold is None else score_threshold
        scores, classes = self._score(predictions)
        masks = predictions.mask_logits.sigmoid()
        _, maskness = measure_fixed(masks, self.mask_threshold)
        above = scores > threshold
        scores = torch.where(above, scores * maskness, 0)
        if self.nms:
            places, scores = decay_fixed(self, masks, classes, scores)
        else:
            scores, places = scores.sort(descending=True)
        places, scores = places[:, : self.max_detections], scores[:, : self.max_detections]
        classes, masks = classes.gather(1, places), take_rows(masks, places)
        return FixedInstances(scores, classes, masks, above.sum(1))

    @staticmethod
    def _score(predictions: SetPredictions) -> tuple[Tensor, Tensor]:
        """Return the scores before maskness, sqrt(p s), and the classes of predictions [..., N]."""
        # The square root of a product is monotonic: the best class is that of the best logit.
        best, classes = predictions.class_logits.max(-1)
        if predictions.objectness_logits is None:
            return best.sigmoid(), classes
        return (best.sigmoid() * predictions.objectness_logits.sigmoid()).sqrt(), classes
