"""Turn MaskFormer's predictions into results of all three tasks (NeurIPS 2021, section 3.4).

B images, N queries, K classes, h w of the predicted masks, H W of the requested output.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from detectron2.config import CfgNode
from detectron2.modeling.postprocessing import sem_seg_postprocess
from torch import Tensor

from ...data.formats.classes import stuff_ids
from ...modeling.order import set_first
from ...modeling.panoptic import (
    SegmentAssignment,
    SoftMasks,
    assign_pixels,
    assign_segments,
    number_segments,
)
from ...modeling.transfer import to_host
from ...ops.host_copy import HostCopy
from ...ops.resize import ResizedMasks
from ...ops.resize_rows import MaskRows
from .instances import InstanceRanking, rank_instances, select_instances


class QueryScores(NamedTuple):
    """The class predictions of a batch's queries, on their device.

    Attributes:
        probabilities: float32 [B, N, K + 1], "no object" last.
        order: with panoptic results, indices of the masks, those of objects first, int64 [B, N].
        num_objects: with panoptic results, the number of masks of objects, int64 [B].
    """

    probabilities: Tensor
    order: Tensor | None
    num_objects: Tensor | None


@dataclass(frozen=True)
class Inference:
    """The results to compute, and their thresholds: `MODEL.MASK_FORMER.TEST`.

    Attributes:
        semantic, panoptic, instance: which results to compute.
        hard_assignment: semantic: every pixel belongs to one mask, instead of to all.
        resize_first: semantic: resize masks to the output before summing them, not after, which
            needs less memory. With panoptic results this is always so, as published.
        stuff_classes: classes without instances.
        object_threshold: panoptic: the lowest probability of a mask's class, exclusive.
        overlap_threshold: panoptic: see `assign_segments`.
        max_instances: instance: the greatest number of instances.
        instance_threshold: instance: the lowest score, exclusive.
    """

    semantic: bool
    panoptic: bool
    instance: bool
    hard_assignment: bool
    resize_first: bool
    stuff_classes: tuple[int, ...]
    object_threshold: float
    overlap_threshold: float
    max_instances: int
    instance_threshold: float

    @classmethod
    def from_config(cls, cfg: CfgNode, num_classes: int) -> "Inference":
        """Read `cfg.MODEL.MASK_FORMER.TEST`, and the stuff classes of the dataset."""
        test = cfg.MODEL.MASK_FORMER.TEST
        return cls(
            semantic=test.SEMANTIC_ON,
            panoptic=test.PANOPTIC_ON,
            instance=test.INSTANCE_ON,
            hard_assignment=test.SEMANTIC_INFERENCE_METHOD == "hard",
            resize_first=test.SEM_SEG_POSTPROCESSING_BEFORE_INFERENCE or test.PANOPTIC_ON,
            stuff_classes=stuff_ids(cfg, num_classes),
            object_threshold=test.OBJECT_MASK_THRESHOLD,
            overlap_threshold=test.OVERLAP_THRESHOLD,
            max_instances=cfg.TEST.DETECTIONS_PER_IMAGE,
            instance_threshold=test.INSTANCE_SCORE_THRESHOLD,
        )

    def score(self, class_logits: Tensor) -> QueryScores:
        """Compute for a batch everything that needs neither masks nor a wait of the host.

        Args:
            class_logits: [B, N, K + 1], "no object" last.
        """
        probabilities = class_logits.float().softmax(-1)
        if not self.panoptic:
            return QueryScores(probabilities, None, None)
        scores, classes = probabilities.max(-1)
        object_class = classes < probabilities.shape[-1] - 1
        chosen = object_class & (scores > self.object_threshold)
        return QueryScores(probabilities, set_first(chosen), chosen.sum(1))

    def of_scores(self, scores: QueryScores, masks: Sequence[ResizedMasks]) -> list[dict[str, Any]]:
        """Compute the results of a batch.

        While a GPU does the rest, the host waits for the number of masks that take part in
        segments; then for the segments, and for the number of instances. For semantic results it
        does not wait.

        Args:
            scores: result of `score`.
            masks: N mask logits per image.

        Returns:
            The requested results among `sem_seg`, `panoptic_seg` and `instances`, in detectron2's
            form.
        """
        probabilities = scores.probabilities
        # Queued now, so that it is there when everything else is queued, too.
        counts = None if scores.num_objects is None else HostCopy(scores.num_objects)
        results: list[dict[str, Any]] = [{} for _ in masks]
        if self.semantic:
            for result, *image in zip(results, probabilities, masks):
                result["sem_seg"] = self._semantic(*image)
        assignments: list[SegmentAssignment] = []
        rankings: list[InstanceRanking] = []
        if self.instance:
            rankings = [self._rank(*image) for image in zip(probabilities, masks)]
        if scores.order is not None and counts is not None:
            chosen = [image[:count] for image, count in zip(scores.order, counts.wait().tolist())]
            assignments = [self._assign(*image) for image in zip(probabilities, masks, chosen)]
        if assignments or rankings:
            _finish(results, assignments, rankings, self.stuff_classes)
        return results

    def _semantic(self, probabilities: Tensor, masks: ResizedMasks) -> Tensor:
        segment = _assign_hard if self.hard_assignment else _marginalise
        if self.resize_first:
            return segment(_sigmoid(masks), probabilities, masks.output_size)
        size = masks.image_size
        unresized = ResizedMasks(masks.masks, masks.padded_size, size, size)
        scores = segment(_sigmoid(unresized), probabilities, size)
        return (
            scores
            if masks.output_size == size
            else sem_seg_postprocess(scores, size, *masks.output_size)
        )

    def _assign(
        self, probabilities: Tensor, masks: ResizedMasks, chosen: Tensor
    ) -> SegmentAssignment:
        scores, classes = probabilities[chosen].max(1)
        soft, size = _sigmoid(masks[chosen]), masks.output_size
        return assign_segments(soft, scores, classes, size, self.overlap_threshold)

    def _rank(self, probabilities: Tensor, masks: ResizedMasks) -> InstanceRanking:
        best = select_instances(probabilities, self.stuff_classes, self.max_instances)
        return rank_instances(
            masks[best.masks], best.scores, best.classes, threshold=self.instance_threshold
        )


def _marginalise(
    masks: SoftMasks | MaskRows, probabilities: Tensor, size: tuple[int, int]
) -> Tensor:
    """Return the sum over masks i of p_i(c) m_i for every class and pixel ("semantic inference").

    Args:
        masks: probabilities of N masks in chunks, in order, or in blocks of rows.
        probabilities: float32 [N, K + 1] of the classes, "no object" last.
        size: (H, W).

    Returns:
        float32 [K, H, W].
    """
    if isinstance(masks, MaskRows):
        weights = probabilities[:, :-1].T.contiguous()
        result = probabilities.new_empty((len(weights), *size))
        for rows, block in masks.blocks:
            torch.mm(weights, block.flatten(1), out=result[:, rows].flatten(1))
        return result
    result = probabilities.new_zeros((probabilities.shape[1] - 1, *size))
    for part, mask in masks:
        # In place, because a second map of all classes would be as large as the result.
        result.flatten(1).addmm_(probabilities[part, :-1].T, mask.flatten(1))
    return result


def _assign_hard(
    masks: SoftMasks | MaskRows, probabilities: Tensor, size: tuple[int, int]
) -> Tensor:
    """Assign each pixel to one mask, whose class the pixel gets ("general inference").

    A mask has its most probable class, and does not take part if that is "no object"; a pixel
    belongs to the mask with the greatest p_i(c_i) m_i.

    Args:
        masks: see `_marginalise`.
        probabilities: see `_marginalise`.
        size: (H, W).

    Returns:
        float32 [K, H, W]: p_i(c_i) m_i at the pixel's class, 0 at the others.
    """
    num_classes = probabilities.shape[1] - 1
    scores, classes = probabilities.max(1)
    scores = torch.where(classes < num_classes, scores, 0)
    pixels = assign_pixels(masks, scores, size)
    # "No object" wins only where no mask takes part: with 0, which any class may get.
    label = classes.clamp(max=num_classes - 1)[pixels.mask]
    result = probabilities.new_zeros((num_classes, *size))
    return result.scatter_(0, label[None], pixels.value[None])


def _sigmoid(masks: ResizedMasks) -> SoftMasks | MaskRows:
    """Return probability maps: the logits are resized before the sigmoid is applied."""
    if masks.by_rows:
        logits = masks.rows()
        return MaskRows(
            logits.num_masks, ((rows, block.sigmoid_()) for rows, block in logits.blocks)
        )
    return ((part, logits.sigmoid()) for part, logits in masks)


def _finish(
    results: list[dict[str, Any]],
    assignments: list[SegmentAssignment],
    rankings: list[InstanceRanking],
    stuff_classes: Sequence[int],
) -> None:
    """Add to each image's results what the host must know: segments, and how many instances."""
    tables = [image.table for image in assignments]
    values = to_host([*tables, *(image.count for image in rankings)])
    if assignments:
        segments = number_segments(assignments, values[: len(tables)], stuff_classes)
        for result, panoptic_seg in zip(results, segments):
            result["panoptic_seg"] = panoptic_seg
    for result, (count,) in zip(results, values[len(tables) :]):
        # Removed one by one: the masks of all instances make room for those of the best.
        result["instances"] = rankings.pop(0).best(int(count))
