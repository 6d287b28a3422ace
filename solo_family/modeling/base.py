"""Do what every method does before and after its own part: preprocess, train or infer, group."""

from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.modeling.backbone import Backbone
from detectron2.structures import ImageList, Instances
from torch import Tensor, nn

from ..class_maps import with_class_maps
from ..ops.host_copy import to_device
from .built_backbone import built_backbone
from .cuda_graphs import CudaGraphs
from .gt_masks import truth_of, with_bitmasks
from .interface import MethodInterface
from .layers.folded_norm import fold_fixed_norms
from .normalizer import LossCount
from .owned import owned
from .trained_pairs import fold_for_training
from .transfer import instances_to_device, normalise, padded_size, round_up

# Runs inference on a batch with a model, and decides something on the way.
FirstInference = Callable[["MaskSegmentor", list[dict[str, Any]]], list[dict[str, Any]]]


class MaskSegmentor(nn.Module, MethodInterface):
    """Preprocess images, choose between training and inference, and group images by size.

    A method adds the parts that `MethodInterface` names.

    Args:
        backbone: the backbone; its `output_shape()` names the features.
        pixel_mean: one value per channel of the input, in its colour order, 0 to 255.
        pixel_std: one value per channel, likewise.
        size_divisibility: inputs are padded, on the right and below, to multiples of this.
        norm_eval: keep the backbone's batch-norm statistics fixed in training.
    """

    def __init__(
        self,
        *,
        backbone: Backbone,
        pixel_mean: list[float],
        pixel_std: list[float],
        size_divisibility: int = 32,
        norm_eval: bool = False,
    ) -> None:
        super().__init__()
        fold_fixed_norms(backbone)
        if norm_eval:
            fold_for_training(backbone, len(pixel_mean), size_divisibility)
        self.backbone = backbone
        self.size_divisibility = size_divisibility
        self.norm_eval = norm_eval
        # Off in training; `inference_model` switches them on.
        self.graphs = CudaGraphs()
        # These are set on copies for inference, see `prepare_for_inference`.
        self.inference_mode = False
        self.channels_last = False
        self.first_inference: FirstInference | None = None
        self._prepared: torch.dtype | None = None
        self.pixel_mean: Tensor
        self.pixel_std: Tensor
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1), False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1), False)

    @classmethod
    def base_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Return the arguments of `MaskSegmentor`; a method's `from_config` adds its own."""
        backbone = built_backbone(cfg)
        return {
            "backbone": backbone,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            # At least 32, so that the finest and the coarsest level differ by an exact factor, and
            # a multiple of the backbone's own, which is 14 for patches of 14 pixels.
            "size_divisibility": round_up(32, max(1, backbone.size_divisibility)),
            "norm_eval": cfg.MODEL.BACKBONE.NORM_EVAL,
        }

    def predict(
        self,
        features: dict[str, Tensor],
        padded_size: tuple[int, int],
        image_sizes: list[tuple[int, int]],
        output_sizes: list[tuple[int, int]],
    ) -> list[dict[str, Any]]:
        """Return one result per image, in detectron2's form.

        Args:
            features: the backbone's features by name.
            padded_size: (height, width) of the batch.
            image_sizes: (height, width) of each image, without padding.
            output_sizes: (height, width) of each image's result.
        """
        fixed = self.fixed_part(features, padded_size)
        return self.results(fixed, padded_size, image_sizes, output_sizes)

    @property
    def device(self) -> torch.device:
        """The device that inputs are moved to."""
        return self.pixel_mean.device

    def refuse_training(self, dtype: torch.dtype) -> None:
        """Refuse training, saving and loading from now on, because weights or norms have changed.

        Args:
            dtype: that of the weights.
        """
        self._prepared = dtype
        for module in self.modules():
            module.register_state_dict_pre_hook(_refuse)

    def take_network(self, other: "MaskSegmentor") -> None:
        """Become another copy of the same model for inference, with its weights."""
        self.graphs.forget()
        for name, child in other.named_children():
            setattr(self, name, child)
        self._prepared, self.channels_last = other._prepared, other.channels_last

    def load_state_dict(self, *args: Any, **options: Any) -> Any:
        """Load weights as `nn.Module` does, and drop CUDA graphs of the old ones."""
        if self._prepared is not None:
            _refuse()
        self.graphs.forget()
        return super().load_state_dict(*args, **options)

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> "MaskSegmentor":
        self.graphs.forget()
        pixels = {name: getattr(self, name) for name in ("pixel_mean", "pixel_std")}
        super()._apply(fn, recurse)
        for name, before in pixels.items():
            after = getattr(self, name)
            # Half precision is enough for weights, but it would round the pixels.
            if after.dtype.itemsize < before.dtype.itemsize:
                setattr(self, name, before.to(after.device))
        return self

    def train(self, mode: bool = True) -> "MaskSegmentor":
        """Set the mode as `nn.Module` does; with `norm_eval`, batch norms keep their statistics."""
        if mode and self._prepared is not None:
            _refuse()
        super().train(mode)
        if mode:
            self.graphs.forget()
        if mode and self.norm_eval:
            for module in self.backbone.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    def forward(self, batched_inputs: list[dict[str, Any]]) -> Any:
        """Train or infer on a batch, with detectron2's arguments and results.

        Args:
            batched_inputs: one dict per image. `image` is [C, H, W] of 0 to 255, in the colour
                order of `INPUT.FORMAT`. Training needs `instances`. At inference `height` and
                `width` set the size of the result; without them it is the image's own. In training
                `pad_to` of the first is the size of a batch that these are a part of.

        Returns:
            In training, a dict of losses; at inference, a list of results, each with `instances`.
        """
        if not self.training:
            infer = self.first_inference
            with with_class_maps() if self.is_extended else nullcontext():
                return infer(self, batched_inputs) if infer else self.inference(batched_inputs)
        images = self.preprocess(
            [item["image"] for item in batched_inputs], _pad_to(batched_inputs)
        )
        gt_instances = self._truth(batched_inputs)
        # The targets are queued before the backbone: a GPU is busy with it while the host goes on.
        targets = self.prepare_targets(gt_instances, _padded_size(images))
        features = self.backbone(images.tensor)
        return self.losses(features, targets, _padded_size(images))

    def _truth(self, batched_inputs: list[dict[str, Any]]) -> list[Instances]:
        return instances_to_device(
            [with_bitmasks(truth_of(item)) for item in batched_inputs], self.device
        )

    @torch.no_grad()
    def count_losses(self, batched_inputs: list[dict[str, Any]]) -> dict[str, LossCount]:
        """Return what each loss of a batch is divided by, see `loss_counts`, without a network."""
        images = [item["image"] for item in batched_inputs]
        size = padded_size(images, self.size_divisibility, _pad_to(batched_inputs))
        return self.loss_counts(self._truth(batched_inputs), size)

    def preprocess(self, images: list[Tensor], pad_to: Sequence[int] = (0, 0)) -> ImageList:
        """Normalise images and pad them to one size.

        Args:
            images: one tensor [C, h, w] per image, of any dtype and on any device.
            pad_to: (height, width) that they are padded to at least.

        Returns:
            [B, C, H, W] of the weights' dtype, normalised in float32; the padding is 0.
        """
        there = to_device(images, self.device)
        batch = normalise(
            there,
            self.pixel_mean,
            self.pixel_std,
            self.size_divisibility,
            pad_to,
            self.weight_dtype,
            self.channels_last,
        )
        sizes = [(image.shape[-2], image.shape[-1]) for image in images]
        return ImageList(batch, sizes)

    @property
    def weight_dtype(self) -> torch.dtype:
        """The dtype of the backbone's weights: float32, or half precision for inference."""
        return self._prepared or next(self.backbone.parameters()).dtype

    def export_forward(
        self,
        images: Tensor,
        score_threshold: float | Tensor | None = None,
        image_sizes: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Run the part of inference that can be exported; the rest needs each image's own size.

        The sizes of all tensors follow from the size of the input, not from its content: the number
        of instances is fixed, and unused ones score 0.

        Args:
            images: [B, C, H, W] of 0 to 255, padded to multiples of `size_divisibility` with
                `pixel_mean`, which normalisation turns into 0.
            score_threshold: a number, or a float32 tensor without dimensions, that replaces the
                configured threshold. Methods without candidates ignore it.
            image_sizes: height and width of each image without padding, int64 [B, 2]; None if no
                image is padded. Only methods that name it in `export_inputs` use it.

        Returns:
            The method's predictions by name; see its `predict_fixed`.
        """
        height, width = images.shape[-2:]
        normalised = (images.float() - self.pixel_mean) / self.pixel_std
        features = self.backbone(normalised.to(self.weight_dtype))
        return self.predict_fixed(features, (height, width), score_threshold, image_sizes)

    @torch.no_grad()
    def inference(self, batched_inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Run inference, with one batch for all images of the same padded size.

        Images are never padded to the size of a larger one: grids divide the padded input, so that
        the result of an image would depend on the others in its batch.

        Args:
            batched_inputs: see `forward`.

        Returns:
            One result per image, in the order of the inputs.
        """
        groups: dict[tuple[int, ...], list[int]] = {}
        for index, item in enumerate(batched_inputs):
            size = tuple(-(-side // self.size_divisibility) for side in item["image"].shape[-2:])
            groups.setdefault(size, []).append(index)
        results: list[dict[str, Any]] = [{} for _ in batched_inputs]
        for indices in groups.values():
            group = [batched_inputs[index] for index in indices]
            for index, result in zip(indices, self._inference_group(group)):
                results[index] = result
        return results

    def _inference_group(self, batched_inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        images = self.preprocess([item["image"] for item in batched_inputs])
        output_sizes = [
            (int(item.get("height", size[0])), int(item.get("width", size[1])))
            for item, size in zip(batched_inputs, images.image_sizes)
        ]
        padded_size = _padded_size(images)

        def first(batch: Tensor) -> Any:
            with self.without_autograd():
                return self.fixed_part(self.backbone(batch), padded_size)

        def finish(fixed: Any) -> list[dict[str, Any]]:
            return self.results(fixed, padded_size, images.image_sizes, output_sizes)

        return self.run_in_parts(first, finish, images.tensor, self.fixed_settings)

    def run_in_parts(
        self,
        first: Callable[[Tensor], Any],
        finish: Callable[[Any], list[dict[str, Any]]],
        batch: Tensor,
        settings: Hashable,
    ) -> list[dict[str, Any]]:
        """Return `finish(first(batch))`, results that may be written to; see `CudaGraphs.run`."""
        # Tensors of inference mode could not be written to afterwards.
        last = (lambda fixed: owned(finish(fixed), fixed)) if self.inference_mode else finish
        return self.graphs.run(self, first, last, batch, settings)

    def without_autograd(self) -> AbstractContextManager[Any]:
        """Return the context of the network at inference: `torch.inference_mode`, if optimised."""
        return torch.inference_mode() if self.inference_mode else nullcontext()


def _refuse(*_: Any) -> None:
    raise RuntimeError(
        "This model was prepared for inference: its norms are part of other weights, or its "
        "weights are rounded, so it can't be trained, saved or loaded into. Take the model that it "
        "was made from, or set MODEL.INFERENCE.OPTIMIZE off and MODEL.INFERENCE.PRECISION float32."
    )


def _padded_size(images: ImageList) -> tuple[int, int]:
    height, width = images.tensor.shape[-2:]
    return height, width


def _pad_to(batched_inputs: list[dict[str, Any]]) -> tuple[int, int]:
    return batched_inputs[0].get("pad_to", (0, 0))
