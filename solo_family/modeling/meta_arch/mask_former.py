"""MaskFormer (Cheng et al., NeurIPS 2021, arXiv 2107.06278).

B images, N queries, K classes, L decoder layers, h w of the predicted masks.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY, build_sem_seg_head
from detectron2.modeling.postprocessing import sem_seg_postprocess
from detectron2.structures import Instances
from torch import Tensor

from ...data.classes import stuff_ids
from ...errors import ConfigError
from ...layers import dynamic_conv
from ..heads.mask_former_head import MaskFormerHead
from ..losses.marginal_likelihood import MarginalLikelihood
from ..losses.mask_classification import MaskClassificationLosses, PointSampler
from ..losses.set_criterion import SetCriterion
from ..losses.set_predictions import EmbeddedMasks, LayeredPredictions, SetTargets
from ..matching.costs import fixed_cost, mask_former_cost
from ..postprocess.panoptic import SoftMasks, merge_panoptic
from ..postprocess.query_instances import mask_instances, select_instances
from ..postprocess.resize import ResizedMasks
from ..postprocess.semantic import assign_hard, marginalise
from .base import MaskSegmentor

_Criterion = Callable[[LayeredPredictions, SetTargets], dict[str, Tensor]]


@dataclass(frozen=True)
class Inference:
    """What is predicted, and with which thresholds: `MODEL.MASK_FORMER.TEST`.

    Attributes:
        semantic, panoptic, instance: which results are made.
        hard_assignment: semantic: every pixel belongs to one mask, instead of to all.
        resize_first: semantic: masks are resized to the output and then summed, not the reverse,
            which needs less memory. With panoptic results it is always so, as published.
        stuff_classes: classes without instances.
        object_threshold: panoptic: the least probability of a mask's class, exclusive.
        overlap_threshold: panoptic: see `merge_panoptic`.
        max_instances: instance: at most so many.
        instance_threshold: instance: the least score, exclusive.
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

    def __call__(self, class_logits: Tensor, masks: ResizedMasks) -> dict[str, Any]:
        """Makes the results of one image.

        Args:
            class_logits: [N, K + 1], "no object" last.
            masks: N mask logits.

        Returns:
            Of `sem_seg`, `panoptic_seg`, `instances` those that are asked for, in detectron2's
            form.
        """
        probabilities = class_logits.float().softmax(1)
        result: dict[str, Any] = {}
        if self.semantic:
            result["sem_seg"] = self._semantic(probabilities, masks)
        if self.panoptic:
            result["panoptic_seg"] = self._panoptic(probabilities, masks)
        if self.instance:
            scores, classes, chosen = select_instances(
                probabilities, self.stuff_classes, self.max_instances
            )
            result["instances"] = mask_instances(
                masks[chosen], scores, classes, threshold=self.instance_threshold
            )
        return result

    def _semantic(self, probabilities: Tensor, masks: ResizedMasks) -> Tensor:
        segment = assign_hard if self.hard_assignment else marginalise
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

    def _panoptic(
        self, probabilities: Tensor, masks: ResizedMasks
    ) -> tuple[Tensor, list[dict[str, Any]]]:
        scores, classes = probabilities.max(1)
        object_class = classes < probabilities.shape[1] - 1
        chosen = (object_class & (scores > self.object_threshold)).nonzero()[:, 0]
        return merge_panoptic(
            _sigmoid(masks[chosen]),
            scores[chosen],
            classes[chosen],
            masks.output_size,
            stuff_classes=self.stuff_classes,
            overlap_threshold=self.overlap_threshold,
        )


def _sigmoid(masks: ResizedMasks) -> SoftMasks:
    """Yields probabilities: logits are resized, and the sigmoid is taken after."""
    return ((part, logits.sigmoid()) for part, logits in masks)


@META_ARCH_REGISTRY.register()
class MaskFormer(MaskSegmentor):
    """Predicts a set of masks, each with a class; one model for all three tasks.

    Args:
        sem_seg_head: class logits, mask embeddings, pixel embeddings.
        criterion: training.
        inference: the rest.
        base: arguments of `MaskSegmentor`.
    """

    export_inputs = ("images",)

    @configurable
    def __init__(
        self,
        *,
        sem_seg_head: MaskFormerHead,
        criterion: _Criterion,
        inference: Inference,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        self.sem_seg_head = sem_seg_head
        self.criterion = criterion
        self.make_results = inference

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        base = cls.base_config(cfg)
        divisibility = cfg.MODEL.MASK_FORMER.SIZE_DIVISIBILITY
        if divisibility < 0:
            divisibility = base["backbone"].size_divisibility
        head = build_sem_seg_head(cfg, base["backbone"].output_shape())
        return {
            **base,
            "size_divisibility": max(1, divisibility),
            "sem_seg_head": head,
            "criterion": _build_criterion(cfg, head.num_classes),
            "inference": Inference.from_config(cfg, head.num_classes),
        }

    def prepare_targets(
        self, gt_instances: list[Instances], padded_size: tuple[int, int]
    ) -> SetTargets:
        """Returns the objects, their masks at the size of the padded input."""
        counts = [len(gt) for gt in gt_instances]
        masks = torch.zeros((sum(counts), *padded_size), dtype=torch.bool, device=self.device)
        for padded, gt in zip(masks.split(counts), gt_instances):
            height, width = gt.gt_masks.tensor.shape[-2:]
            padded[:, :height, :width] = gt.gt_masks.tensor
        return SetTargets.join([gt.gt_classes for gt in gt_instances], masks)

    def losses(
        self, features: dict[str, Tensor], targets: SetTargets, padded_size: tuple[int, int]
    ) -> dict[str, Tensor]:
        class_logits, embeddings, mask_features = self.sem_seg_head(features)
        masks = EmbeddedMasks(embeddings, mask_features)
        return self.criterion(LayeredPredictions(class_logits, masks), targets)

    def predict(
        self,
        features: dict[str, Tensor],
        padded_size: tuple[int, int],
        image_sizes: list[tuple[int, int]],
        output_sizes: list[tuple[int, int]],
    ) -> list[dict[str, Any]]:
        class_logits, embeddings, mask_features = self.sem_seg_head(features)
        results = []
        with torch.autocast(self.device.type, enabled=False):
            for index, sizes in enumerate(zip(image_sizes, output_sizes)):
                logits = dynamic_conv(embeddings[-1, index].float(), mask_features[index].float())
                masks = ResizedMasks(logits, padded_size, *sizes)
                results.append(self.make_results(class_logits[-1, index], masks))
        return results

    def predict_fixed(
        self,
        features: dict[str, Tensor],
        padded_size: tuple[int, int],
        score_threshold: float | Tensor | None,
        image_sizes: Tensor | None,
    ) -> dict[str, Tensor]:
        """Returns all N predictions; there are no candidates, and no threshold.

        Returns:
            `class_probabilities`, float32 [B, N, K + 1], and `mask_logits`, float32 [B, N, h, w].
        """
        class_logits, embeddings, mask_features = self.sem_seg_head(features)
        with torch.autocast(self.device.type, enabled=False):
            return {
                "class_probabilities": class_logits[-1].float().softmax(-1),
                "mask_logits": dynamic_conv(embeddings[-1].float(), mask_features.float()),
            }

    def export_settings(self) -> dict[str, Any]:
        inference = asdict(self.make_results)
        thresholds = {
            "object": inference.pop("object_threshold"),
            "overlap": inference.pop("overlap_threshold"),
            "keep": inference.pop("instance_threshold"),
        }
        return {"task": "queries", "thresholds": thresholds, "results": inference}


def _build_criterion(cfg: CfgNode, num_classes: int) -> _Criterion:
    method = cfg.MODEL.MASK_FORMER
    if method.LOSS_TYPE == "per_pixel_likelihood":
        return MarginalLikelihood()
    if method.MATCHING == "fixed" and num_classes > method.NUM_OBJECT_QUERIES:
        raise ConfigError(
            f"MODEL.MASK_FORMER.NUM_OBJECT_QUERIES is {method.NUM_OBJECT_QUERIES}; MATCHING fixed "
            f"needs a query for each of the {num_classes} classes."
        )
    points = PointSampler(
        method.TRAIN_NUM_POINTS, method.OVERSAMPLE_RATIO, method.IMPORTANCE_SAMPLE_RATIO
    )
    weights = {"mask_weight": method.MASK_WEIGHT, "dice_weight": method.DICE_WEIGHT}
    return SetCriterion(
        cost=fixed_cost if method.MATCHING == "fixed" else partial(mask_former_cost, **weights),
        losses=MaskClassificationLosses(
            num_classes=num_classes,
            no_object_weight=method.NO_OBJECT_WEIGHT,
            points=points if method.POINT_SAMPLING else None,
        ),
        weights={
            "loss_ce": 1.0,
            "loss_mask": method.MASK_WEIGHT,
            "loss_dice": method.DICE_WEIGHT,
        },
        count_key="MODEL.MASK_FORMER.NUM_OBJECT_QUERIES",
    )
