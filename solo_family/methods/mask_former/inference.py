"""Turn MaskFormer's predictions into results of all three tasks (NeurIPS 2021, section 3.4).

B images, N queries, K classes, h w of the predicted masks, H W of the requested output.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from detectron2.config import CfgNode
from detectron2.modeling.postprocessing import sem_seg_postprocess
from torch import Tensor

from ...class_maps import Read, class_maps_read
from ...data.formats.classes import stuff_ids
from ...modeling.order import set_first
from ...modeling.panoptic import (
    SegmentAssignment,
    assign_segments,
    number_segments,
)
from ...modeling.transfer import to_host
from ...ops.host_copy import HostCopy
from ...ops.resize import ResizedMasks
from ...ops.resize_rows import MaskRows
from .instances import InstanceRanking, rank_instances, select_instances
from .late_scores import LateScores
from .semantic_maps import assign_hard, class_weights, marginalise, probability_maps, sum_masks


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
        """Compute the results of a batch; see `class_maps` for when `sem_seg` is made.

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
        if self.semantic and self.panoptic and class_maps_read() is not Read.NOW:
            others = replace(self, semantic=False).of_scores(scores, masks)
            if class_maps_read() is Read.LATER:
                for result, *image in zip(others, probabilities, masks):
                    result["sem_seg"] = self._late(*image)
            return others
        # Queued now, so that it is there when everything else is queued, too.
        counts = None if scores.num_objects is None else HostCopy(scores.num_objects)
        results: list[dict[str, Any]] = [{} for _ in masks]
        # On a CPU masks are resized once for both.
        at_once = self._marginalises_first and any(one.by_rows for one in masks)
        if self.semantic and not at_once:
            for result, *image in zip(results, probabilities, masks):
                result["sem_seg"] = self._semantic(*image)
        assignments: list[SegmentAssignment] = []
        rankings: list[InstanceRanking] = []
        if self.instance:
            rankings = [self._rank(*image) for image in zip(probabilities, masks)]
        if scores.order is not None and counts is not None:
            chosen = [image[:count] for image, count in zip(scores.order, counts.wait().tolist())]
            assign = self._marginalise_and_assign if at_once else self._assign
            assignments = [assign(*image) for image in zip(results, probabilities, masks, chosen)]
        if assignments or rankings:
            _finish(results, assignments, rankings, self.stuff_classes)
        return results

    @property
    def _marginalises_first(self) -> bool:
        """Whether both kinds of result are of all pixels of the resized masks."""
        both = self.semantic and self.panoptic
        return both and self.resize_first and not self.hard_assignment

    def _late(self, probabilities: Tensor, masks: ResizedMasks) -> LateScores:
        return LateScores(probabilities, masks, self._semantic, self._marginalises_first)

    def _semantic(self, probabilities: Tensor, masks: ResizedMasks) -> Tensor:
        segment = assign_hard if self.hard_assignment else marginalise
        if self.resize_first:
            return segment(probability_maps(masks), probabilities, masks.output_size)
        size = masks.image_size
        unresized = ResizedMasks(masks.masks, masks.padded_size, size, size)
        scores = segment(probability_maps(unresized), probabilities, size)
        return (
            scores
            if masks.output_size == size
            else sem_seg_postprocess(scores, size, *masks.output_size)
        )

    def _assign(
        self, _: dict[str, Any], probabilities: Tensor, masks: ResizedMasks, chosen: Tensor
    ) -> SegmentAssignment:
        scores, classes = probabilities[chosen].max(1)
        soft, size = probability_maps(masks[chosen]), masks.output_size
        return assign_segments(soft, scores, classes, size, self.overlap_threshold)

    def _marginalise_and_assign(
        self, result: dict[str, Any], probabilities: Tensor, masks: ResizedMasks, chosen: Tensor
    ) -> SegmentAssignment:
        """Return what `_assign` does, and add to the result what `marginalise` returns."""
        scores, classes = probabilities[chosen].max(1)
        size, weights = masks.output_size, class_weights(probabilities)
        result["sem_seg"] = semantic = probabilities.new_empty((len(weights), *size))
        soft = probability_maps(masks)
        assert isinstance(soft, MaskRows)

        def of_chosen(every: MaskRows) -> Iterator[tuple[slice, Tensor]]:
            for rows, block in every.blocks:
                sum_masks(weights, block, semantic[:, rows])
                if len(chosen):
                    yield rows, block[chosen]

        segments = MaskRows(len(chosen), of_chosen(soft))
        return assign_segments(segments, scores, classes, size, self.overlap_threshold)

    def _rank(self, probabilities: Tensor, masks: ResizedMasks) -> InstanceRanking:
        best = select_instances(probabilities, self.stuff_classes, self.max_instances)
        return rank_instances(masks, best, threshold=self.instance_threshold)


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
