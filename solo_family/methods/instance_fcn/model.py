"""InstanceFCN (Dai et al., ECCV 2016, arXiv 1603.08678).

B images, k relative positions per axis, m side of a window, H W cells of the map, W windows of one
image, P positive ones.
"""

from dataclasses import asdict
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.data.transforms import ResizeShortestEdge
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.structures import Instances
from torch import Tensor

from ...config.rules import check_features
from ...data.formats.classes import num_classes
from ...modeling.base import MaskSegmentor
from ...modeling.fixed_instances import stack_fixed
from ...modeling.gt_masks import downsample_masks
from ...modeling.instances import make_instances
from ...modeling.transfer import normalise
from ...ops import mask_boxes
from ...ops.host_copy import to_device
from .assemble import assemble, soft_masks
from .fixed_windows import FIXED_WINDOWS, FixedWindows, slide_fixed
from .head import InstanceFCNHead, MaskPooledClassifier
from .losses import WindowCriterion, window_mask_loss
from .proposals import DenseMaps, ProposalSelector, Windows, by_scale
from .targets import SampledWindows, WindowSampler, window_masks


@META_ARCH_REGISTRY.register()
class InstanceFCN(MaskSegmentor):
    """Proposes object masks: assembles one for each window from k^2 instance-sensitive score maps.

    Proposals are of no class (class 0), unless there is a classifier.

    Args:
        head: score maps and objectness.
        in_feature: name of the feature that the head works on; its stride must be even.
        sampler, criterion: training.
        negative_masks: negative windows learn empty masks.
        selector: inference.
        test_scales: short edges that an image is resized to; none keeps it as it is.
        max_size: limit of the long edge, then.
        classifier: None for class-agnostic proposals.
        base: arguments of `MaskSegmentor`.
    """

    export_inputs = ("images", "score_threshold", "image_sizes")

    @configurable
    def __init__(
        self,
        *,
        head: InstanceFCNHead,
        in_feature: str,
        sampler: WindowSampler,
        criterion: WindowCriterion,
        negative_masks: bool = False,
        selector: ProposalSelector,
        test_scales: tuple[int, ...] = (),
        max_size: int = 1333,
        classifier: MaskPooledClassifier | None = None,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        self.head = head
        self.in_feature = in_feature
        self.stride = self.backbone.output_shape()[in_feature].stride
        self.sampler = sampler
        self.criterion = criterion
        self.negative_masks = negative_masks
        self.selector = selector
        self.test_scales = test_scales
        self.max_size = max_size
        self.classifier = classifier

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        method = cfg.MODEL.INSTANCE_FCN
        base = cls.base_config(cfg)
        shapes = base["backbone"].output_shape()
        check_features("MODEL.INSTANCE_FCN.IN_FEATURE", [method.IN_FEATURE], shapes)
        channels = shapes[method.IN_FEATURE].channels
        classifier = None
        if method.CLASSIFY:
            classes = num_classes(cfg, "MODEL.INSTANCE_FCN.NUM_CLASSES")
            classifier = MaskPooledClassifier(in_channels=channels, num_classes=classes)
        return {
            **base,
            "head": InstanceFCNHead(
                in_channels=channels,
                num_positions=method.NUM_POSITIONS,
                channels=method.CHANNELS,
            ),
            "in_feature": method.IN_FEATURE,
            "sampler": WindowSampler.from_config(method),
            "criterion": WindowCriterion.from_config(
                method, globally=cfg.SOLVER.NORMALIZE_LOSS_GLOBALLY
            ),
            "negative_masks": method.LOSS.NEGATIVE_MASKS,
            "selector": ProposalSelector.from_config(method),
            "test_scales": method.TEST_SCALES,
            "max_size": cfg.INPUT.MAX_SIZE_TEST,
            "classifier": classifier,
        }

    def losses(
        self,
        features: dict[str, Tensor],
        gt_instances: list[Instances],
        padded_size: tuple[int, int],
    ) -> dict[str, Tensor]:
        score_maps, objectness_logits = self.head(features[self.in_feature])
        objectness, positive, mask_losses, class_logits, classes = [], [], [], [], []
        for index, gt in enumerate(gt_instances):
            height, width = self._map_size(gt.image_size)
            boxes = mask_boxes(gt.gt_masks.tensor)
            windows = self.sampler(boxes, (height, width), self.stride)
            rows, columns = windows.centers.unbind(1)
            objectness.append(objectness_logits[index, rows, columns])
            positive.append(torch.arange(len(rows), device=self.device) < len(windows.objects))
            image_maps = score_maps[index, :, :height, :width]
            masks = downsample_masks([gt.gt_masks.tensor], padded_size, self.stride)
            mask_losses.append(self._mask_losses(image_maps, windows, masks[:, :height, :width]))
            if self.classifier is not None:
                image_features = features[self.in_feature][index, :, :height, :width]
                centers = windows.centers[: len(windows.objects)]
                soft = soft_masks(image_maps.detach(), centers, self.sampler.window_size)
                class_logits.append(self.classifier(image_features, centers, soft))
                classes.append(gt.gt_classes[windows.objects])
        losses = self.criterion(torch.cat(objectness), torch.cat(positive), torch.cat(mask_losses))
        if self.classifier is not None:
            losses |= self.criterion.classification(torch.cat(class_logits), torch.cat(classes))
        # DDP waits for gradients of the levels of a pyramid that are not looked at, too: 0.
        for feature in features.values():
            losses["loss_mask"] = losses["loss_mask"] + 0 * feature.flatten()[0]
        return losses

    def _mask_losses(self, score_maps: Tensor, windows: SampledWindows, masks: Tensor) -> Tensor:
        """Returns the mask loss of the windows of one image whose mask is learnt, [P]."""
        centers, objects = windows.centers, windows.objects
        if self.negative_masks:
            objects = F.pad(objects, (0, len(centers) - len(objects)), value=-1)
        centers = centers[: len(objects)]
        logits, inside = assemble(score_maps, centers, self.sampler.window_size)
        targets = window_masks(masks, objects, centers, self.sampler.window_size)
        return window_mask_loss(logits, targets, inside)

    def fixed_part(
        self, features: dict[str, Tensor], padded_size: tuple[int, int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Returns what the head gives, and what it was given."""
        given = features[self.in_feature]
        return (*self.head(given), given)

    def results(
        self,
        fixed: tuple[Tensor, Tensor, Tensor],
        padded_size: tuple[int, int],
        image_sizes: list[tuple[int, int]],
        output_sizes: list[tuple[int, int]],
    ) -> list[dict[str, Any]]:
        maps = self._dense_maps(fixed, image_sizes, output_sizes)
        return self.propose([[one] for one in maps], output_sizes)

    def _inference_group(self, batched_inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Runs each image at every scale, one after the other; they share the NMS."""
        if not self.test_scales:
            return super()._inference_group(batched_inputs)
        results = []
        for item in batched_inputs:
            image = item["image"]
            output_size = (
                int(item.get("height", image.shape[1])),
                int(item.get("width", image.shape[2])),
            )
            results += self.propose([self.multi_scale_maps(image, output_size)], [output_size])
        return results

    def multi_scale_maps(self, image: Tensor, output_size: tuple[int, int]) -> list[DenseMaps]:
        """Runs the network on one image at every scale; or as it is, if there are none.

        The scales are of one image, normalised, and are resized here, because the data loader
        gives one size only: bilinearly, smoothed where the image shrinks, as the loader does.

        Args:
            image: [C, h, w] of 0 to 255.
            output_size: (height, width) that the result is asked for.
        """
        height, width = image.shape[-2:]
        there = to_device([image], self.device)
        normalised = normalise(there, self.pixel_mean, self.pixel_std, size_divisibility=1)
        maps: list[DenseMaps] = []
        for size in self._scaled_sizes(height, width):
            resized = F.interpolate(normalised, size, mode="bilinear", antialias=True)
            bottom, right = (-side % self.size_divisibility for side in size)
            padded = F.pad(resized, (0, right, 0, bottom))
            features = self.backbone(padded.to(self.weight_dtype))
            maps += self.dense_maps(features, [size], [output_size])
        return maps

    def _scaled_sizes(self, height: int, width: int) -> list[tuple[int, int]]:
        if not self.test_scales:
            return [(height, width)]
        shapes = (
            ResizeShortestEdge.get_output_shape(height, width, edge, self.max_size)
            for edge in self.test_scales
        )
        return [(max(1, new_height), max(1, new_width)) for new_height, new_width in shapes]

    def dense_maps(
        self,
        features: dict[str, Tensor],
        image_sizes: list[tuple[int, int]],
        output_sizes: list[tuple[int, int]],
    ) -> list[DenseMaps]:
        """Returns what dense sliding needs, per image of a batch; see `predict`."""
        given = features[self.in_feature]
        return self._dense_maps((*self.head(given), given), image_sizes, output_sizes)

    def _dense_maps(
        self,
        fixed: tuple[Tensor, Tensor, Tensor],
        image_sizes: list[tuple[int, int]],
        output_sizes: list[tuple[int, int]],
    ) -> list[DenseMaps]:
        score_maps, objectness_logits, features = fixed
        maps = []
        for index, (image_size, output_size) in enumerate(zip(image_sizes, output_sizes)):
            height, width = self._map_size(image_size)
            cell_height, cell_width = (
                self.stride * output / image for output, image in zip(output_size, image_size)
            )
            maps.append(
                DenseMaps(
                    score_maps=score_maps[index, :, :height, :width].float(),
                    objectness_logits=objectness_logits[index, :height, :width].float(),
                    features=features[index, :, :height, :width],
                    cell_size=(cell_height, cell_width),
                )
            )
        return maps

    def propose(
        self, images: list[list[DenseMaps]], output_sizes: list[tuple[int, int]]
    ) -> list[dict[str, Any]]:
        """Returns the results of images from the maps of every scale.

        The host waits for the number of windows of all images; and for NMS, image by image.
        """
        results = []
        with torch.autocast(self.device.type, enabled=False):
            ranked, counts = self.selector.rank(images)
            for windows, count, maps, size in zip(
                ranked, counts.wait().tolist(), images, output_sizes
            ):
                kept = self.selector.suppress(windows[:count], maps, size)
                scores, classes = kept.scores, torch.zeros_like(kept.scales)
                if self.classifier is not None:
                    scores, classes = self._classify(maps, kept)
                masks = self.selector.paste(kept, maps, size)
                results.append({"instances": make_instances(masks, scores, classes)})
        return results

    def _classify(self, maps: list[DenseMaps], windows: Windows) -> tuple[Tensor, Tensor]:
        """Returns scores, times the probability of the likeliest class, and these classes."""
        assert self.classifier is not None
        order, counts = by_scale(windows.scales, len(maps))
        best = []
        for scale, centers in zip(maps, windows.centers[order].split(counts)):
            soft = soft_masks(scale.score_maps, centers, self.selector.window_size)
            best.append(self.classifier(scale.features, centers, soft).softmax(dim=1).max(dim=1))
        values, indices = (torch.cat(parts) for parts in zip(*best))
        scores, classes = torch.empty_like(windows.scores), torch.empty_like(windows.scales)
        scores[order], classes[order] = values.to(scores.dtype), indices
        return windows.scores * scores, classes

    def predict_fixed(
        self,
        features: dict[str, Tensor],
        padded_size: tuple[int, int],
        score_threshold: float | Tensor | None,
        image_sizes: Tensor | None,
    ) -> dict[str, Tensor]:
        """Returns each image's best windows: see `FixedWindows`, with B images in front."""
        given = features[self.in_feature]
        score_maps, objectness_logits = self.head(given)
        if image_sizes is None:
            sides = [torch.full((len(given),), side, device=self.device) for side in padded_size]
            image_sizes = torch.stack(sides, dim=1)
        map_sizes = (image_sizes + self.stride - 1) // self.stride
        with torch.autocast(self.device.type, enabled=False):
            windows = [
                slide_fixed(self.selector, self.classifier, *image, score_threshold=score_threshold)
                for image in zip(score_maps, objectness_logits, given, map_sizes)
            ]
        return stack_fixed(windows, FixedWindows._fields)

    def export_settings(self) -> dict[str, Any]:
        thresholds = {"score": 0.0, "mask": self.selector.mask_threshold}
        return {
            "task": "windows",
            "thresholds": thresholds | {"nms": self.selector.nms_threshold},
            "candidates": self.selector.pre_nms or FIXED_WINDOWS,
            "stride": self.stride,
            "test_scales": list(self.test_scales),
            "test_max_size": self.max_size,
            "results": asdict(self.selector),
        }

    def _map_size(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """Returns how many cells the image has, without padding."""
        height, width = (-(-side // self.stride) for side in image_size)
        return height, width
