"""SparseInst (Cheng et al., CVPR 2022, arXiv 2203.12827).

B images, N predictions, K classes, G groups of activation maps.
"""

from collections.abc import Hashable
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.structures import Instances
from torch import Tensor, nn

from ...config.rules import check_features
from ...data.formats.classes import num_classes
from ...errors import ConfigError
from ...modeling.base import MaskSegmentor
from ...modeling.fixed_instances import FixedInstances, stack_fixed
from ...modeling.gt_masks import downsample_soft_masks
from ...modeling.instances import make_instances
from ...modeling.matching_costs import sparse_inst_cost
from ...modeling.set_criterion import SetCriterion
from ...modeling.set_predictions import LayeredPredictions, SetTargets
from ...ops.host_copy import HostCopy
from ...ops.resize import ResizedMasks, resize_masks_with_boxes
from .cross_attention_branch import CrossAttentionBranch
from .decoder import ActivationBranch, SparseInstDecoder
from .encoder import InstanceContextEncoder
from .fixed_selection import select_set_fixed
from .instance_predictor import MaskBranch
from .losses import sparse_inst_losses
from .panoptic import PanopticMerge
from .selection import SetRanking, SetSelector

_COUNT_KEY = "MODEL.SPARSE_INST.DECODER.NUM_MASKS"


class SetOutputs(NamedTuple):
    """What is known of images before the host waits.

    Attributes:
        instances: the predictions in order; with panoptic results those that take part in them.
        things: with panoptic results, the predictions of things in order.
        counts: int64 [1 or 2, B], how many of each.
        maps: the activation maps, float32 [B, G, N, h, w], where they are asked for.
    """

    instances: SetRanking
    things: SetRanking | None
    counts: Tensor
    maps: Tensor | None


@META_ARCH_REGISTRY.register()
class SparseInst(MaskSegmentor):
    """Segments objects by a sparse set of activation maps, matched one to one with objects.

    Args:
        encoder: fuses the backbone's features.
        decoder: predicts instances and masks.
        in_features: names of the encoder's levels, the finest first.
        mask_stride: of the predicted masks.
        criterion: training.
        selector: inference.
        panoptic: makes `panoptic_seg`, and instances are those of things; None for instances of
            all classes alone.
        output_maps: whether results carry `activation_maps`, float32 [n, G, h, w].
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
        criterion: SetCriterion,
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
        sparse_inst = cfg.MODEL.SPARSE_INST
        base = cls.base_config(cfg)
        shapes = base["backbone"].output_shape()
        names = sparse_inst.ENCODER.IN_FEATURES
        check_features("MODEL.SPARSE_INST.ENCODER.IN_FEATURES", names, shapes)
        strides = [shapes[name].stride for name in names]
        if any(2 * fine != coarse for fine, coarse in pairwise(strides)):
            raise ConfigError(
                f"MODEL.SPARSE_INST.ENCODER.IN_FEATURES is {names}, of strides {strides}: "
                "name the finest first, each of twice the stride of the one before."
            )
        loss = sparse_inst.LOSS
        return {
            **base,
            "encoder": InstanceContextEncoder(
                in_channels=[shapes[name].channels for name in names],
                channels=sparse_inst.ENCODER.NUM_CHANNELS,
            ),
            "decoder": _build_decoder(cfg),
            "in_features": names,
            "mask_stride": _mask_stride(strides[0], sparse_inst.DECODER.SCALE_FACTOR),
            "criterion": SetCriterion(
                cost=partial(
                    sparse_inst_cost,
                    alpha=sparse_inst.MATCHER.ALPHA,
                    beta=sparse_inst.MATCHER.BETA,
                ),
                losses=partial(sparse_inst_losses, items=loss.ITEMS),
                weights={
                    "loss_class": loss.CLASS_WEIGHT,
                    "loss_mask": loss.MASK_PIXEL_WEIGHT,
                    "loss_dice": loss.MASK_DICE_WEIGHT,
                    "loss_objectness": loss.OBJECTNESS_WEIGHT,
                },
                count_key=_COUNT_KEY,
            ),
            "selector": SetSelector.from_config(sparse_inst),
            "panoptic": PanopticMerge.from_config(cfg) if sparse_inst.PANOPTIC_ON else None,
            "output_maps": sparse_inst.DECODER.OUTPUT_IAM,
        }

    def prepare_targets(
        self, gt_instances: list[Instances], padded_size: tuple[int, int]
    ) -> SetTargets:
        """Returns the objects, their masks at the stride of the predicted ones."""
        masks = downsample_soft_masks(
            [gt.gt_masks.tensor for gt in gt_instances], padded_size, self.mask_stride
        )
        return SetTargets.join([gt.gt_classes for gt in gt_instances], masks)

    def losses(
        self, features: dict[str, Tensor], targets: SetTargets, padded_size: tuple[int, int]
    ) -> dict[str, Tensor]:
        predictions, _ = self._decode(features)
        return self.criterion(LayeredPredictions.stack([predictions]), targets)

    def fixed_part(self, features: dict[str, Tensor], padded_size: tuple[int, int]) -> SetOutputs:
        predictions, maps = self._decode(features)
        maps = maps if self.output_maps else None
        ranking = self.selector.rank(*(part.float() for part in predictions))
        if self.panoptic is None:
            return SetOutputs(ranking, None, ranking.count[None], maps)
        taking_part = ranking.only(ranking.scores > self.panoptic.object_threshold)
        things = ranking.only(self.panoptic.things(ranking.classes))
        counts = torch.stack([taking_part.count, things.count])
        return SetOutputs(taking_part, things, counts, maps)

    @property
    def fixed_settings(self) -> Hashable:
        return self.selector, self.panoptic, self.output_maps

    def results(
        self,
        fixed: SetOutputs,
        padded_size: tuple[int, int],
        image_sizes: list[tuple[int, int]],
        output_sizes: list[tuple[int, int]],
    ) -> list[dict[str, Any]]:
        sizes = [(padded_size, *image) for image in zip(image_sizes, output_sizes)]
        results: list[dict[str, Any]] = [{} for _ in sizes]
        counts = HostCopy(fixed.counts).wait().tolist()
        if self.panoptic is None or fixed.things is None:
            self._add_instances(results, fixed.instances, counts[0], fixed.maps, sizes)
            return results
        assignments = []
        for index, count in enumerate(counts[0]):
            scores, classes, masks, _ = fixed.instances.best(index, count)
            resized = ResizedMasks(masks, *sizes[index])
            assignments.append(self.panoptic.assign(resized, scores, classes))
        self._add_instances(results, fixed.things, counts[1], fixed.maps, sizes)
        for result, panoptic_seg in zip(results, self.panoptic.number(assignments)):
            result["panoptic_seg"] = panoptic_seg
        return results

    def _add_instances(
        self,
        results: list[dict[str, Any]],
        ranking: SetRanking,
        counts: list[int],
        maps: Tensor | None,
        sizes: list[tuple[tuple[int, int], tuple[int, int], tuple[int, int]]],
    ) -> None:
        """Adds the first so many of a ranking to each image's results."""
        threshold = self.selector.mask_threshold
        for index, (result, count) in enumerate(zip(results, counts)):
            scores, classes, soft_masks, chosen = ranking.best(index, count)
            masks, boxes = resize_masks_with_boxes(soft_masks, *sizes[index], threshold)
            result["instances"] = make_instances(masks, scores, classes, boxes)
            if maps is not None:
                result["instances"].activation_maps = maps[index][:, chosen].transpose(0, 1)

    def predict_fixed(
        self,
        features: dict[str, Tensor],
        padded_size: tuple[int, int],
        score_threshold: float | Tensor | None,
        image_sizes: Tensor | None,
    ) -> dict[str, Tensor]:
        """Returns `scores`, `classes` and `masks`: see `FixedInstances`, with B images in front."""
        predictions, _ = self._decode(features)
        class_logits, mask_logits, objectness_logits = (part.float() for part in predictions)
        instances = [
            select_set_fixed(self.selector, *image, score_threshold)
            for image in zip(class_logits, mask_logits, objectness_logits)
        ]
        return stack_fixed(instances, FixedInstances._fields)

    def export_settings(self) -> dict[str, Any]:
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

    def _decode(self, features: dict[str, Tensor]) -> Any:
        return self.decoder(self.encoder([features[name] for name in self.in_features]))


def _mask_stride(feature_stride: int, scale_factor: float) -> int:
    stride = feature_stride / scale_factor
    if stride not in (2, 4, 8, 16):
        raise ConfigError(
            f"MODEL.SPARSE_INST.DECODER.SCALE_FACTOR is {scale_factor}, which brings features of "
            f"stride {feature_stride} to stride {stride:g}; 2, 4, 8 and 16 are allowed."
        )
    return int(stride)


def _build_decoder(cfg: CfgNode) -> SparseInstDecoder:
    decoder = cfg.MODEL.SPARSE_INST.DECODER
    in_channels = cfg.MODEL.SPARSE_INST.ENCODER.NUM_CHANNELS + 2
    options = {
        "in_channels": in_channels,
        "channels": decoder.INST.DIM,
        "num_convs": decoder.INST.CONVS,
        "num_classes": num_classes(cfg, "MODEL.SPARSE_INST.DECODER.NUM_CLASSES"),
        "kernel_channels": decoder.KERNEL_DIM,
    }
    branch: nn.Module
    if decoder.NAME == "CrossAttentionDecoder":
        branch = CrossAttentionBranch(
            num_queries=decoder.NUM_MASKS, num_heads=decoder.GROUPS, **options
        )
    else:
        grouped = decoder.NAME != "BaseIAMDecoder"
        soft = decoder.NAME == "GroupIAMSoftDecoder"
        branch = ActivationBranch(
            num_maps=decoder.NUM_MASKS,
            groups=decoder.GROUPS if grouped else 1,
            fuse=grouped,
            kernel_size=decoder.IAM_KERNEL_SIZE,
            activation=decoder.IAM_ACTIVATION or ("softmax" if soft else "sigmoid"),
            **options,
        )
    return SparseInstDecoder(
        instance_branch=branch,
        mask_branch=MaskBranch(
            in_channels=in_channels,
            channels=decoder.MASK.DIM,
            num_convs=decoder.MASK.CONVS,
            out_channels=decoder.KERNEL_DIM,
        ),
        scale_factor=decoder.SCALE_FACTOR,
    )
