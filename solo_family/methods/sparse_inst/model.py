"""Build SparseInst (Cheng et al., CVPR 2022, arXiv 2203.12827).

B images, N predictions, K classes, G groups of activation maps.
"""

from collections.abc import Hashable
from typing import Any, NamedTuple

import torch
from detectron2.config import CfgNode, configurable
from detectron2.structures import Instances
from torch import Tensor, nn

from ...modeling.base import MaskSegmentor
from ...modeling.gt_masks import downsample_soft_masks
from ...modeling.instances import make_instances
from ...modeling.normalizer import LossCount
from ...modeling.one_to_many import HybridCriterion
from ...modeling.set_criterion import SetCriterion, set_counts
from ...modeling.set_predictions import LayeredPredictions, SetTargets
from ...ops.compact import resize_compactly
from ...ops.host_copy import HostCopy
from ...ops.resize import ResizedMasks
from .build import (
    build_criterion,
    build_decoder,
    build_encoder,
    mask_stride,
    scale_to_features,
)
from .decoder import DecoderOutputs, SparseInstDecoder
from .encoder import InstanceContextEncoder
from .panoptic import PanopticMerge
from .selection import SetRanking, SetSelector


class SetOutputs(NamedTuple):
    """The part of a batch's results that is computed before the host waits for the device.

    Attributes:
        instances: the predictions in order; with panoptic results those that take part in them.
        things: with panoptic results, the predictions of things in order.
        counts: int64 [1 or 2, B], how many there are of each.
        activation_maps: float32 [B, G, N, h, w], if they are requested.
    """

    instances: SetRanking
    things: SetRanking | None
    counts: Tensor
    activation_maps: Tensor | None


class SparseInst(MaskSegmentor):
    """Segment objects by a sparse set of activation maps, matched one to one with objects.

    Args:
        encoder: fuses the backbone's features.
        decoder: predicts instances and masks.
        in_features: names of the encoder's levels, the finest first.
        mask_stride: the stride of the predicted masks.
        criterion: computes the losses in training.
        selector: selects the predictions at inference.
        panoptic: adds `panoptic_seg`, with instances of things only; None for instances of all
            classes.
        output_maps: whether results include `activation_maps`, float32 [n, G, h, w].
        base: arguments of `MaskSegmentor`.
    """

    @configurable
    def __init__(
        self,
        *,
        encoder: InstanceContextEncoder,
        decoder: SparseInstDecoder,
        in_features: list[str],
        mask_stride: int,
        criterion: SetCriterion | HybridCriterion,
        selector: SetSelector,
        panoptic: PanopticMerge | None = None,
        output_maps: bool = False,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        self.encoder = encoder
        self.decoder = decoder
        self.in_features = in_features
        self.mask_stride = mask_stride
        self.criterion = criterion
        self.selector = selector
        self.panoptic = panoptic
        self.output_maps = output_maps

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Read the arguments from `cfg.MODEL.SPARSE_INST`."""
        sparse_inst = cfg.MODEL.SPARSE_INST
        base = cls.base_config(cfg)
        shapes = base["backbone"].output_shape()
        names = sparse_inst.ENCODER.IN_FEATURES
        encoder, decoder = build_encoder(sparse_inst, shapes), build_decoder(cfg)
        # A file that is loaded later has all weights.
        if sparse_inst.UNIT_INIT and not cfg.MODEL.WEIGHTS:
            scale_to_features(base["backbone"], encoder, decoder, names, len(cfg.MODEL.PIXEL_MEAN))
        return {
            **base,
            "encoder": encoder,
            "decoder": decoder,
            "in_features": names,
            "mask_stride": mask_stride(shapes[names[0]].stride, sparse_inst.DECODER.SCALE_FACTOR),
            "criterion": build_criterion(sparse_inst),
            "selector": SetSelector.from_config(cfg),
            "panoptic": PanopticMerge.from_config(cfg) if sparse_inst.PANOPTIC_ON else None,
            "output_maps": sparse_inst.DECODER.OUTPUT_IAM,
        }

    @property
    def network_parts(self) -> list[nn.Module]:
        """The encoder and the decoder; see `MethodInterface.network_parts`."""
        return [self.encoder, self.decoder]

    @property
    def recomputed_parts(self) -> list[nn.Module]:
        """The encoder and both branches; see `MethodInterface.recomputed_parts`."""
        return [self.encoder, self.decoder.instance_branch, self.decoder.mask_branch]

    def prepare_targets(
        self, gt_instances: list[Instances], padded_size: tuple[int, int]
    ) -> SetTargets:
        """Return the objects, with masks at the stride of the predicted ones."""
        masks = downsample_soft_masks(
            [gt.gt_masks.tensor for gt in gt_instances], padded_size, self.mask_stride
        )
        return SetTargets.join([gt.gt_classes for gt in gt_instances], masks)

    @property
    def counts_losses(self) -> bool:
        """Whether all losses are those of `sparse_inst_losses`."""
        return isinstance(self.criterion, SetCriterion)

    def loss_counts(
        self, gt_instances: list[Instances], padded_size: tuple[int, int]
    ) -> dict[str, LossCount]:
        """Return what the losses are divided by; see `MaskSegmentor.loss_counts`."""
        counts = set_counts(gt_instances, self.decoder.num_predictions)
        objects, pairs = (torch.tensor(n, device=self.device) for n in counts)
        by_object, by_pair = LossCount(objects, globally=True), LossCount(pairs)
        return {
            **{"loss_class": by_object, "loss_dice": by_object},
            **{"loss_mask": by_pair, "loss_objectness": by_pair},
        }

    def losses(
        self, features: dict[str, Tensor], targets: SetTargets, padded_size: tuple[int, int]
    ) -> dict[str, Tensor]:
        """Return the weighted losses; see `MaskSegmentor.losses`."""
        layers = [self._decode(features).predictions]
        return self.criterion(LayeredPredictions.stack(layers), targets)

    def fixed_part(self, features: dict[str, Tensor], padded_size: tuple[int, int]) -> SetOutputs:
        """Run the network and order its predictions; see `MaskSegmentor.fixed_part`."""
        decoded = self._decode(features)
        maps = decoded.activation_maps if self.output_maps else None
        ranking = self.selector.rank(decoded.predictions)
        if self.panoptic is None:
            return SetOutputs(ranking, None, ranking.count[None], maps)
        taking_part = ranking.only(ranking.scores > self.panoptic.object_threshold)
        things = ranking.only(self.panoptic.things(ranking.classes))
        counts = torch.stack([taking_part.count, things.count])
        return SetOutputs(taking_part, things, counts, maps)

    @property
    def fixed_settings(self) -> Hashable:
        """Return the settings of `fixed_part`; see `MaskSegmentor.fixed_settings`."""
        return self.selector, self.panoptic, self.output_maps

    def results(
        self,
        fixed: SetOutputs,
        padded_size: tuple[int, int],
        image_sizes: list[tuple[int, int]],
        output_sizes: list[tuple[int, int]],
    ) -> list[dict[str, Any]]:
        """Return results in detectron2's form; see `MaskSegmentor.results`."""
        sizes = [(padded_size, *image) for image in zip(image_sizes, output_sizes)]
        results: list[dict[str, Any]] = [{} for _ in sizes]
        counts = HostCopy(fixed.counts).wait().tolist()
        if self.panoptic is None or fixed.things is None:
            self._add_instances(results, fixed.instances, counts[0], fixed.activation_maps, sizes)
            return results
        assignments = []
        for index, count in enumerate(counts[0]):
            best = fixed.instances.best(index, count)
            resized = ResizedMasks(best.masks[:], *sizes[index])
            assignments.append(self.panoptic.assign(resized, best.scores, best.classes))
        self._add_instances(results, fixed.things, counts[1], fixed.activation_maps, sizes)
        for result, panoptic_seg in zip(results, self.panoptic.number(assignments)):
            result["panoptic_seg"] = panoptic_seg
        return results

    def _add_instances(
        self,
        results: list[dict[str, Any]],
        ranking: SetRanking,
        counts: list[int],
        activation_maps: Tensor | None,
        sizes: list[tuple[tuple[int, int], tuple[int, int], tuple[int, int]]],
    ) -> None:
        """Add the first `counts[i]` predictions of a ranking to the results of image i."""
        threshold = self.selector.mask_threshold
        for index, (result, count) in enumerate(zip(results, counts)):
            best = ranking.best(index, count)
            masks, boxes = resize_compactly(best.masks, *sizes[index], threshold)
            instances = make_instances(masks, best.scores, best.classes, boxes)
            if activation_maps is not None:
                instances.activation_maps = activation_maps[index][:, best.indices].transpose(0, 1)
            result["instances"] = instances

    def predict_fixed(
        self,
        features: dict[str, Tensor],
        padded_size: tuple[int, int],
        score_threshold: float | Tensor | None,
        image_sizes: Tensor | None,
    ) -> dict[str, Tensor]:
        """Return the fields of `FixedInstances`."""
        predictions = self._decode(features).predictions
        return self.selector.select_fixed(predictions, score_threshold)._asdict()

    def export_settings(self) -> dict[str, Any]:
        """Return the settings for exported models; see `MaskSegmentor.export_settings`."""
        thresholds = {
            "score": self.selector.class_threshold,
            "mask": self.selector.mask_threshold,
            "keep": self.selector.update_threshold if self.selector.nms else 0.0,
        }
        settings: dict[str, Any] = {"task": "instances", "thresholds": thresholds}
        if self.panoptic is not None:
            thresholds["object"] = self.panoptic.object_threshold
            thresholds["overlap"] = self.panoptic.overlap_threshold
            settings["results"] = {"stuff_classes": list(self.panoptic.stuff_classes)}
        return settings

    def _decode(self, features: dict[str, Tensor]) -> DecoderOutputs:
        return self.decoder(self.encoder([features[name] for name in self.in_features]))
