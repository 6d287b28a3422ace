"""Build MaskFormer (Cheng et al., NeurIPS 2021, arXiv 2107.06278).

B images, N queries, K classes, L decoder layers, h w of the predicted masks.
"""

from collections.abc import Callable, Hashable
from dataclasses import asdict
from functools import partial
from typing import Any, NamedTuple

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import build_sem_seg_head
from detectron2.modeling.backbone import FPN
from detectron2.structures import Instances
from torch import Tensor, nn

from ...errors import ConfigError
from ...modeling.base import MaskSegmentor
from ...modeling.matching_costs import fixed_cost, mask_former_cost
from ...modeling.normalizer import LossCount
from ...modeling.one_to_many import with_one_to_many
from ...modeling.set_criterion import SetCriterion, set_counts
from ...modeling.set_predictions import EmbeddedMasks, LayeredPredictions, SetTargets
from ...ops.decode_masks import dynamic_conv_in_float32
from ...ops.resize import ResizedMasks
from .config import one_to_many
from .inference import Inference, QueryScores
from .losses import LEAST_WEIGHT, MarginalLikelihood, MaskClassificationLosses
from .point_mask_losses import PointSampler
from .predictor import MaskFormerHead
from .transformer import TransformerLayer

_Criterion = Callable[[LayeredPredictions, SetTargets], dict[str, Tensor]]


class QueryOutputs(NamedTuple):
    """The part of a batch's results that is computed before the host waits for the device.

    Attributes:
        scores: the scores of the queries.
        mask_logits: per image, float32 [N, h, w].
    """

    scores: QueryScores
    mask_logits: list[Tensor]


class MaskFormer(MaskSegmentor):
    """Predict a set of masks, each with a class; one model for all three tasks.

    Args:
        sem_seg_head: predicts class logits, mask embeddings, pixel embeddings.
        criterion: computes the losses in training.
        inference: computes the results at inference.
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
        """Read the arguments from `cfg.MODEL.MASK_FORMER` and `cfg.MODEL.SEM_SEG_HEAD`."""
        base = cls.base_config(cfg)
        divisibility = cfg.MODEL.MASK_FORMER.SIZE_DIVISIBILITY
        needed = base["backbone"].size_divisibility
        if divisibility < 0:
            divisibility = needed
        # Other backbones, as Swin, take images of any size; but patches of 14 pixels never fit the
        # published 32.
        strict = isinstance(base["backbone"], FPN) or needed & (needed - 1)
        if strict and needed > 1 and (divisibility < 1 or divisibility % needed):
            raise ConfigError(
                f"MODEL.MASK_FORMER.SIZE_DIVISIBILITY is {divisibility}, but "
                f"{cfg.MODEL.BACKBONE.NAME} takes inputs of multiples of {needed} alone. Set "
                f"MODEL.MASK_FORMER.SIZE_DIVISIBILITY {needed}, or -1, which is the backbone's own."
            )
        head = build_sem_seg_head(cfg, base["backbone"].output_shape())
        return {
            **base,
            "size_divisibility": max(1, divisibility),
            "sem_seg_head": head,
            "criterion": _build_criterion(cfg, head.num_classes),
            "inference": Inference.from_config(cfg, head.num_classes),
        }

    @property
    def network_parts(self) -> list[nn.Module]:
        """The head; see `MethodInterface.network_parts`."""
        return [self.sem_seg_head]

    @property
    def recomputed_parts(self) -> list[nn.Module]:
        """The pixel decoder and the transformer's layers; see `MethodInterface`."""
        layers = self.sem_seg_head.predictor.modules()
        return [
            self.sem_seg_head.pixel_decoder,
            *(part for part in layers if isinstance(part, TransformerLayer)),
        ]

    def prepare_targets(
        self, gt_instances: list[Instances], padded_size: tuple[int, int]
    ) -> SetTargets:
        """Return the objects, with masks at the size of the padded input."""
        counts = [len(gt) for gt in gt_instances]
        masks = torch.zeros((sum(counts), *padded_size), dtype=torch.bool, device=self.device)
        for padded, gt in zip(masks.split(counts), gt_instances):
            height, width = gt.gt_masks.tensor.shape[-2:]
            padded[:, :height, :width] = gt.gt_masks.tensor
        return SetTargets.join([gt.gt_classes for gt in gt_instances], masks)

    @property
    def counts_losses(self) -> bool:
        """Whether all losses are those of mask classification."""
        return isinstance(self.criterion, SetCriterion)

    def loss_counts(
        self, gt_instances: list[Instances], padded_size: tuple[int, int]
    ) -> dict[str, LossCount]:
        """Return what the losses are divided by; see `MaskSegmentor.loss_counts`."""
        assert isinstance(self.criterion, SetCriterion)
        assert isinstance(self.criterion.losses, MaskClassificationLosses)
        num_queries = self.sem_seg_head.predictor.query_embed.num_embeddings
        objects, pairs = set_counts(gt_instances, num_queries)
        unmatched = len(gt_instances) * num_queries - pairs
        weights = pairs + self.criterion.losses.no_object_weight * unmatched
        by_object = LossCount(torch.tensor(objects, device=self.device), globally=True)
        return {
            "loss_ce": LossCount(torch.tensor(weights, device=self.device), least=LEAST_WEIGHT),
            "loss_mask": by_object,
            "loss_dice": by_object,
        }

    def losses(
        self, features: dict[str, Tensor], targets: SetTargets, padded_size: tuple[int, int]
    ) -> dict[str, Tensor]:
        """Return the weighted losses; see `MaskSegmentor.losses`."""
        predictions = self.sem_seg_head(features)
        masks = EmbeddedMasks(predictions.mask_embeddings, predictions.mask_features)
        return self.criterion(LayeredPredictions(predictions.class_logits, masks), targets)

    def fixed_part(self, features: dict[str, Tensor], padded_size: tuple[int, int]) -> QueryOutputs:
        """Run the network and score its queries; see `MaskSegmentor.fixed_part`."""
        last = self.sem_seg_head(features).last_layer()
        with torch.autocast(self.device.type, enabled=False):
            images = zip(last.mask_embeddings, last.mask_features)
            masks = [dynamic_conv_in_float32(*image) for image in images]
            return QueryOutputs(self.make_results.score(last.class_logits), masks)

    @property
    def fixed_settings(self) -> Hashable:
        """Return the settings of `fixed_part`; see `MaskSegmentor.fixed_settings`."""
        return self.make_results

    def results(
        self,
        fixed: QueryOutputs,
        padded_size: tuple[int, int],
        image_sizes: list[tuple[int, int]],
        output_sizes: list[tuple[int, int]],
    ) -> list[dict[str, Any]]:
        """Return results in detectron2's form; see `MaskSegmentor.results`."""
        with torch.autocast(self.device.type, enabled=False):
            masks = [
                ResizedMasks(logits, padded_size, *sizes)
                for logits, *sizes in zip(fixed.mask_logits, image_sizes, output_sizes)
            ]
            return self.make_results.of_scores(fixed.scores, masks)

    def predict_fixed(
        self,
        features: dict[str, Tensor],
        padded_size: tuple[int, int],
        score_threshold: float | Tensor | None,
        image_sizes: Tensor | None,
    ) -> dict[str, Tensor]:
        """Return all N predictions; there are no candidates, and no threshold.

        Returns:
            `class_probabilities`, float32 [B, N, K + 1], and `mask_logits`, float32 [B, N, h, w].
        """
        last = self.sem_seg_head(features).last_layer()
        with torch.autocast(self.device.type, enabled=False):
            return {
                "class_probabilities": last.class_logits.float().softmax(-1),
                "mask_logits": dynamic_conv_in_float32(last.mask_embeddings, last.mask_features),
            }

    def export_settings(self) -> dict[str, Any]:
        """Return the settings for exported models; see `MaskSegmentor.export_settings`."""
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
    criterion = SetCriterion(
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
    auxiliary = one_to_many(method)
    return with_one_to_many(
        criterion,
        num_predictions=method.NUM_OBJECT_QUERIES,
        copies=auxiliary.copies,
        weight=auxiliary.weight,
    )
