"""Build InstanceFCN (Dai et al., ECCV 2016, arXiv 1603.08678).

B images, k relative positions per axis, m side of a window, H W cells of the map, W windows of one
image, P positive ones.
"""

from dataclasses import asdict
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.structures import Instances
from torch import Tensor, nn

from ...data.formats.classes import num_classes
from ...errors import ConfigError
from ...modeling.base import MaskSegmentor
from ...modeling.gt_masks import downsample_masks
from ...modeling.normalizer import LossCount
from ...modeling.shapes import check_features
from ...modeling.transfer import normalise
from ...ops import mask_boxes
from ...ops.host_copy import to_device
from .assemble import soft_masks
from .head import InstanceFCNHead, MaskPooledClassifier, WindowPredictions
from .losses import WindowCriterion
from .proposals import FIXED_WINDOWS, NMS_STRIDE, ProposalSelector, Ranked, propose
from .scales import resize_to_scale, scaled_sizes
from .targets import SampledWindows, WindowSampler
from .windows import DenseMaps


class InstanceFCN(MaskSegmentor):
    """Propose object masks: assemble one for each window from k^2 instance-sensitive score maps.

    Proposals have no class (class 0), unless there is a classifier.

    Args:
        head: predicts score maps and objectness.
        in_feature: name of the feature that the head works on; its stride must be even.
        sampler: selects the windows to train on.
        criterion: computes the losses in training.
        selector: selects the proposals at inference.
        test_scales: short edges that an image is resized to; none keeps it as it is.
        max_size: limit of the long edge for `test_scales`.
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
        self.selector = selector
        self.test_scales = test_scales
        self.max_size = max_size
        self.classifier = classifier

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Read the arguments from `cfg.MODEL.INSTANCE_FCN`."""
        method = cfg.MODEL.INSTANCE_FCN
        base = cls.base_config(cfg)
        shapes = base["backbone"].output_shape()
        check_features("MODEL.INSTANCE_FCN.IN_FEATURE", [method.IN_FEATURE], shapes)
        channels, stride = shapes[method.IN_FEATURE].channels, shapes[method.IN_FEATURE].stride
        if base["size_divisibility"] % stride:
            raise ConfigError(
                f"MODEL.INSTANCE_FCN.IN_FEATURE is {method.IN_FEATURE}, of stride {stride}, but "
                f"inputs are padded to multiples of {base['size_divisibility']}, which that does "
                "not divide. Name a finer feature."
            )
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
            "selector": ProposalSelector.from_config(method),
            "test_scales": method.TEST_SCALES,
            "max_size": cfg.INPUT.MAX_SIZE_TEST,
            "classifier": classifier,
        }

    @property
    def network_parts(self) -> list[nn.Module]:
        """The head; see `MethodInterface.network_parts`."""
        return [self.head]

    @property
    def recomputed_parts(self) -> list[nn.Module]:
        """Both branches; see `MethodInterface.recomputed_parts`."""
        return [self.head]

    def loss_counts(
        self, gt_instances: list[Instances], padded_size: tuple[int, int]
    ) -> dict[str, LossCount]:
        """Return what the losses are divided by; see `MaskSegmentor.loss_counts`."""
        # Which windows are drawn is random, and how many are not.
        windows = [self._sample(gt) for gt in gt_instances]
        numbers = (
            sum(len(image.centers) for image in windows),
            sum(len(image.objects) for image in windows),
        )
        return self.criterion.counts(*torch.tensor(numbers, device=self.device))

    def _sample(self, gt: Instances) -> SampledWindows:
        boxes = mask_boxes(gt.gt_masks.tensor)
        return self.sampler(boxes, self._map_size(gt.image_size), self.stride)

    def losses(
        self,
        features: dict[str, Tensor],
        gt_instances: list[Instances],
        padded_size: tuple[int, int],
    ) -> dict[str, Tensor]:
        """Return the weighted losses; see `MaskSegmentor.losses`."""
        predictions = self.head(features[self.in_feature])
        objectness, positive, mask_losses, class_logits, classes = [], [], [], [], []
        for index, gt in enumerate(gt_instances):
            height, width = self._map_size(gt.image_size)
            windows = self._sample(gt)
            rows, columns = windows.centers.unbind(1)
            image = predictions.of_image(index, (height, width))
            objectness.append(image.objectness_logits[rows, columns])
            positive.append(torch.arange(len(rows), device=self.device) < len(windows.objects))
            masks = downsample_masks([gt.gt_masks.tensor], padded_size, self.stride)
            mask_losses.append(
                self.criterion.mask_losses(image.score_maps, windows, masks[:, :height, :width])
            )
            if self.classifier is not None:
                centers = windows.centers[: len(windows.objects)]
                soft = soft_masks(image.score_maps.detach(), centers, self.sampler.window_size)
                class_logits.append(self.classifier(image.features, centers, soft))
                classes.append(gt.gt_classes[windows.objects])
        losses = self.criterion(torch.cat(objectness), torch.cat(positive), torch.cat(mask_losses))
        if self.classifier is not None:
            losses |= self.criterion.classification(torch.cat(class_logits), torch.cat(classes))
        # DDP also waits for gradients of a pyramid's levels that are not used; they get 0.
        for feature in features.values():
            losses["loss_mask"] = losses["loss_mask"] + 0 * feature.flatten()[0]
        return losses

    def fixed_part(
        self, features: dict[str, Tensor], padded_size: tuple[int, int]
    ) -> WindowPredictions:
        """Run the network; see `MaskSegmentor.fixed_part`."""
        return self.head(features[self.in_feature])

    def results(
        self,
        fixed: WindowPredictions,
        padded_size: tuple[int, int],
        image_sizes: list[tuple[int, int]],
        output_sizes: list[tuple[int, int]],
    ) -> list[dict[str, Any]]:
        """Return results in detectron2's form; see `MaskSegmentor.results`."""
        maps = [[one] for one in self.dense_maps(fixed, image_sizes, output_sizes)]
        return self._propose(maps, self._rank(maps), output_sizes)

    def _inference_group(self, batched_inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Run each image at every scale, one after the other, with one NMS over all scales."""
        if not self.test_scales:
            return super()._inference_group(batched_inputs)
        return [result for item in batched_inputs for result in self._infer_scales(item)]

    def _infer_scales(self, item: dict[str, Any]) -> list[dict[str, Any]]:
        """Run an image at every scale; all that doesn't wait may be one CUDA graph for its size."""
        image = item["image"]
        output_size = (
            int(item.get("height", image.shape[1])),
            int(item.get("width", image.shape[2])),
        )

        def first(normalised: Tensor) -> tuple[list[DenseMaps], Ranked]:
            with self.without_autograd():
                maps = self._scaled_maps(normalised, output_size)
                return maps, self._rank([maps])

        def finish(fixed: tuple[list[DenseMaps], Ranked]) -> list[dict[str, Any]]:
            maps, ranked = fixed
            return self._propose([maps], ranked, [output_size])

        # Boxes are in pixels of the output.
        settings = output_size, tuple(self.test_scales), self.max_size, self.selector
        return self.run_in_parts(first, finish, self._normalise(image), settings)

    def multi_scale_maps(self, image: Tensor, output_size: tuple[int, int]) -> list[DenseMaps]:
        """Run the network on one image at every scale; or as it is, if there are none.

        Args:
            image: [C, h, w], 0 to 255.
            output_size: (height, width) of the requested output.
        """
        with self.without_autograd():
            return self._scaled_maps(self._normalise(image), output_size)

    def _normalise(self, image: Tensor) -> Tensor:
        there = to_device([image], self.device)
        return normalise(
            there,
            self.pixel_mean,
            self.pixel_std,
            size_divisibility=1,
            dtype=self.pixel_mean.dtype,
        )

    def _scaled_maps(self, normalised: Tensor, output_size: tuple[int, int]) -> list[DenseMaps]:
        """Return the maps of every scale of a normalised image [1, C, h, w].

        All scales are resized here from one image, because the data loader returns one size only:
        bilinearly, smoothed where the image shrinks, as the loader does.
        """
        height, width = normalised.shape[-2:]
        sizes = scaled_sizes(height, width, self.test_scales, self.max_size)
        maps: list[DenseMaps] = []
        for size in sizes or [(height, width)]:
            scaled = resize_to_scale(normalised, size, self.size_divisibility).to(self.weight_dtype)
            if self.channels_last and scaled.is_cuda:
                # Otherwise convolutions on a GPU would rearrange their weights each time.
                scaled = scaled.contiguous(memory_format=torch.channels_last)
            features = self.backbone(scaled)
            predictions = self.head(features[self.in_feature])
            maps += self.dense_maps(predictions, [size], [output_size])
        return maps

    def dense_maps(
        self,
        predictions: WindowPredictions,
        image_sizes: list[tuple[int, int]],
        output_sizes: list[tuple[int, int]],
    ) -> list[DenseMaps]:
        """Return the maps for dense sliding, per image of a batch; sizes as for `results`."""
        maps = []
        for index, (image_size, output_size) in enumerate(zip(image_sizes, output_sizes)):
            cell_height, cell_width = (
                self.stride * output / image for output, image in zip(output_size, image_size)
            )
            image = predictions.of_image(index, self._map_size(image_size))
            maps.append(image.dense_maps((cell_height, cell_width)))
        return maps

    def _rank(self, images: list[list[DenseMaps]]) -> Ranked:
        with torch.autocast(self.device.type, enabled=False):
            return self.selector.rank(images)

    def _propose(
        self, images: list[list[DenseMaps]], ranked: Ranked, output_sizes: list[tuple[int, int]]
    ) -> list[dict[str, Any]]:
        with torch.autocast(self.device.type, enabled=False):
            return propose(self.selector, self.classifier, images, ranked, output_sizes)

    def predict_fixed(
        self,
        features: dict[str, Tensor],
        padded_size: tuple[int, int],
        score_threshold: float | Tensor | None,
        image_sizes: Tensor | None,
    ) -> dict[str, Tensor]:
        """Return the fields of `FixedWindows`."""
        predictions = self.head(features[self.in_feature])
        if image_sizes is None:
            count = predictions.features.shape[0]
            sides = [torch.full((count,), side, device=self.device) for side in padded_size]
            image_sizes = torch.stack(sides, dim=1)
        map_sizes = (image_sizes + self.stride - 1) // self.stride
        with torch.autocast(self.device.type, enabled=False):
            windows = self.selector.slide_fixed(
                predictions, map_sizes, self.classifier, score_threshold
            )
        return windows._asdict()

    def export_settings(self) -> dict[str, Any]:
        """Return the settings for exported models; see `MaskSegmentor.export_settings`."""
        thresholds = {"score": 0.0, "mask": self.selector.mask_threshold}
        return {
            "task": "windows",
            "thresholds": thresholds | {"nms": self.selector.nms_threshold},
            "candidates": self.selector.pre_nms or FIXED_WINDOWS,
            "stride": self.stride,
            "test_scales": list(self.test_scales),
            "test_max_size": self.max_size,
            "results": asdict(self.selector) | {"nms_stride": NMS_STRIDE},
        }

    def _map_size(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """Return the height and width, in cells, that an image covers without its padding."""
        height, width = (-(-side // self.stride) for side in image_size)
        return height, width
