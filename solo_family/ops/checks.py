"""Check that the arguments of an operator fit together, without waiting for a device.

N masks; h w the masks' size.
"""

from __future__ import annotations

import torch
from torch import Tensor

# The kernels by which an IoU lowers a score: exp(-sigma IoU^2), or 1 - IoU.
DECAY_KERNELS = ("gaussian", "linear")


def check_kernel(kernel: str) -> None:
    """Raise ValueError for a kernel that matrix NMS and soft NMS do not have."""
    if kernel not in DECAY_KERNELS:
        allowed = ", ".join(repr(name) for name in DECAY_KERNELS)
        raise ValueError(f"unknown NMS kernel {kernel!r}: choose one of {allowed}")


def is_packed(masks: Tensor) -> bool:
    """Return whether masks are the int32 words [N, W] of `PackedMasks`."""
    return masks.dtype == torch.int32 and masks.ndim == 2


def check_masks(masks: Tensor, mask_threshold: float | None) -> None:
    """Raise ValueError for masks that are not bool and have no threshold, or can't have one."""
    if masks.dtype == torch.bool:
        return
    if not masks.is_floating_point():
        raise ValueError(
            f"masks must be bool or floating-point probabilities, but are {masks.dtype}: "
            "convert them, for example with `masks.bool()`"
        )
    if mask_threshold is None:
        raise ValueError(
            f"masks of {masks.dtype} are treated as probabilities, which need a mask_threshold: "
            "pass one, for example mask_threshold=0.5, or pass bool masks"
        )


def check_binary(masks: Tensor) -> None:
    """Raise ValueError for masks that are not bool."""
    if masks.dtype != torch.bool:
        raise ValueError(
            f"masks must be bool, but are {masks.dtype}: threshold them first, "
            "for example `probabilities > 0.5`"
        )


def check_comparable(a: Tensor, b: Tensor) -> None:
    """Raise ValueError for masks that are not bool [N, h, w], or differ in size or device."""
    for masks in (a, b):
        check_binary(masks)
        check_dimensions(masks)
    if a.shape[1:] != b.shape[1:]:
        raise ValueError(
            f"masks must be of one size, but are {tuple(a.shape[1:])} and "
            f"{tuple(b.shape[1:])}: resize one of them first"
        )
    if a.device != b.device:
        raise ValueError(
            f"masks must be on one device, but are on {a.device} and {b.device}: move one of them"
        )


def check_dimensions(masks: Tensor) -> None:
    """Raise ValueError for masks that are not [N, h, w]."""
    if masks.ndim != 3:
        raise ValueError(f"masks must be [N, h, w], but have the shape {tuple(masks.shape)}")


def check_candidates(masks: Tensor, labels: Tensor, scores: Tensor) -> None:
    """Raise ValueError unless each of N masks, in whatever form, has its label and its score."""
    if labels.ndim != 1 or scores.ndim != 1 or not len(masks) == len(labels) == len(scores):
        raise ValueError(
            f"there must be a label and a score for each mask, but there are {len(masks)} masks, "
            f"{_count(labels)} labels and {_count(scores)} scores"
        )
    if labels.dtype == torch.bool or labels.is_floating_point() or not scores.is_floating_point():
        raise ValueError(
            f"labels must be integers and scores floating-point, but they are {labels.dtype} and "
            f"{scores.dtype}: convert them, for example with `labels.long()` or `scores.float()`"
        )
    if not masks.device == labels.device == scores.device:
        raise ValueError(
            f"masks, labels and scores must be on one device, but are on {masks.device}, "
            f"{labels.device} and {scores.device}: move them, for example with `.to(masks.device)`"
        )


def _count(values: Tensor) -> str:
    return str(len(values)) if values.ndim == 1 else f"{tuple(values.shape)}"
