"""mmdetection's SOLO and Decoupled SOLO, called as the other models are.

mmdet 3.3.0 with mmcv-lite 2.1.0, mmengine, addict, yapf, terminaltables and rich from PyPI, in a
folder of their own (`pip install --no-deps --target DIR ...`). In training on a GPU the row of a
training step is an error, see `mmcv_lite`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from detectron2.structures import Instances
from torch import Tensor, nn

from .mmcv_lite import import_mmdet


def build_mmdet(config: str) -> Callable[[Path, str], nn.Module]:
    """Return what builds a model of mmdet from the folder of its packages, on a device."""

    def build(packages: Path, device: str) -> nn.Module:
        configs = _import(packages)
        from mmdet.registry import MODELS
        from mmengine.config import Config

        model = Config.fromfile(configs / config).model
        model.backbone.init_cfg = None
        # Both models are given the same tensor, in the order that the means are of.
        model.data_preprocessor.bgr_to_rgb = False
        # Before it is wrapped: its data preprocessor learns its device from the model's own `to`.
        return _Callable(MODELS.build(model).to(device))

    return build


class _Callable(nn.Module):
    """A model of mmdet that takes and gives what detectron2's models do."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model: Any = model

    def forward(self, batched_inputs: list[dict[str, Any]]) -> Any:
        from mmdet.structures import DetDataSample

        samples = []
        for item in batched_inputs:
            shape = tuple(item["image"].shape[-2:])
            original = item["height"], item["width"]
            meta = {
                "img_shape": shape,
                "ori_shape": original,
                "scale_factor": (shape[1] / original[1], shape[0] / original[0]),
            }
            samples.append(DetDataSample(metainfo=meta))
        data = {"inputs": [item["image"] for item in batched_inputs], "data_samples": samples}
        if self.training:
            for sample, item in zip(samples, batched_inputs):
                sample.gt_instances = _truth(item["instances"])
            data = self.model.data_preprocessor(data, training=True)
            losses = self.model(**data, mode="loss")
            return {name: _total(loss) for name, loss in losses.items() if "loss" in name}
        results = [sample.pred_instances for sample in self.model.test_step(data)]
        return [
            {
                "instances": Instances(
                    tuple(sample.metainfo["ori_shape"]),
                    scores=found.scores,
                    pred_classes=found.labels,
                    pred_masks=found.masks,
                )
            }
            for sample, found in zip(samples, results)
        ]

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        return self.model.state_dict(*args, **kwargs)


def _truth(given: Instances) -> Any:
    from mmdet.structures.mask import BitmapMasks
    from mmengine.structures import InstanceData

    masks = given.gt_masks.tensor.numpy().astype("uint8")
    truth = InstanceData(bboxes=given.gt_boxes.tensor, labels=given.gt_classes)
    truth.masks = BitmapMasks(masks, *given.image_size)
    return truth


def _total(loss: Tensor | list[Tensor]) -> Tensor:
    return loss if isinstance(loss, Tensor) else torch.stack(loss).sum()


def _import(packages: Path) -> Path:
    """Make mmdet importable, and return the folder of its configs."""
    if not (packages / "mmdet").is_dir():
        raise SystemExit(f"{packages} has no mmdet: pip install --target it there.")
    if "mmdet" not in sys.modules:
        # After everything else: it brings libraries of its own versions.
        sys.path.append(str(packages))
    import_mmdet()
    return packages / "mmdet" / ".mim" / "configs"
