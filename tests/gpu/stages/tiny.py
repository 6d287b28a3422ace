"""The six methods, tiny and untrained, with what they are run on."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.structures import Instances
from torch import nn

from tests.conftest import eager_to_find, picture, tiny_model

Batch = list[dict[str, Any]]


def model(method: str, *, found: bool = True) -> nn.Module:
    """Return one on the CPU, in evaluation mode, which finds objects in any picture, or none."""
    return eager_to_find(tiny_model(method), found)


def batch(*seeds_and_heights: tuple[int, int]) -> Batch:
    """Return pictures of 96 columns, without ground truth; a call of a model gets its own."""
    pictures = [picture(seed=seed, height=height) for seed, height in seeds_and_heights]
    return [{key: one[key] for key in ("image", "height", "width")} for one in pictures]


def share_found(found: dict[str, Any], expected: dict[str, Any]) -> float:
    """Return the share of the expected instances that are found: the smaller of both directions.

    An instance is found where one of its class has a score within 0.05 and an IoU above 0.9.
    """
    one, other = (result["instances"].to("cpu") for result in (found, expected))
    return min(_share(one, other), _share(other, one))


def _share(found: Instances, expected: Instances) -> float:
    if not len(expected):
        return 1.0
    shared = 0
    for index in range(len(expected)):
        mask = expected.pred_masks[index]
        near = (found.scores - expected.scores[index]).abs() < 0.05
        alike = found.pred_masks[near & (found.pred_classes == expected.pred_classes[index])]
        common, either = (alike & mask).sum((1, 2)), (alike | mask).sum((1, 2))
        shared += bool((common > 0.9 * either).any() | ((either == 0) & (mask.sum() == 0)).any())
    return shared / len(expected)


def gradients_are_finite(module: nn.Module) -> bool:
    """Whether every parameter has a gradient, of finite values."""
    gradients = [parameter.grad for parameter in module.parameters() if parameter.requires_grad]
    return all(gradient is not None and bool(gradient.isfinite().all()) for gradient in gradients)


def exact() -> None:
    """Have float32 mean float32, not TensorFloat-32, in convolutions too."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
