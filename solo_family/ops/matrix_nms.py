"""Decay scores by overlap: matrix NMS (SOLOv2, NeurIPS 2020, arXiv 2003.10152, section 2.2).

N masks; n the best of them that take part; h w the masks' size.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from . import gpu_kernels, matrix_nms_bits
from .checks import check_candidates, check_dimensions, check_kernel, check_masks, is_packed
from .matrix_nms_torch import decay_all_pairs, decay_by_class

# Measured on an H200 with masks of 200x336. Launched one by one, Triton's kernels take 0.49 ms for
# 100 masks and 0.65 ms for 500, torch's 0.35 ms and 1.03 ms: the two are equal at about this
# number.
_TRITON_FROM = 208
# Intersections of 2,000 masks of one class take 0.59 ms as products of bytes, 1.3 ms in Triton; of
# 80 classes 0.30 ms in Triton, which leaves out pairs of two classes.
_INT8_FROM = 1000


def matrix_nms(
    masks: Tensor,
    labels: Tensor,
    scores: Tensor,
    *,
    kernel: str = "gaussian",
    sigma: float = 2.0,
    pre_nms: int | None = 500,
    post_nms: int | None = 100,
    threshold: float = 0.05,
    mask_threshold: float | None = None,
    class_agnostic: bool = False,
) -> tuple[Tensor, Tensor]:
    """Decay each score by its mask's overlap with better masks of the same class.

    The masks may come in any order; equal scores keep the order of the inputs. All arithmetic is in
    float32, whatever the inputs' dtype and also under autocast.

    Args:
        masks: bool [N, h, w]; or floating-point probabilities or logits, with a `mask_threshold`;
            or the int32 words of `PackedMasks`.
        labels: int64 [N].
        scores: floating-point [N].
        kernel: "gaussian" or "linear".
        sigma: strength of the Gaussian kernel; the linear kernel has none.
        pre_nms: number of best-scored masks that take part; None for all.
        post_nms: greatest number of masks to return; None for all.
        threshold: the lowest decayed score to return.
        mask_threshold: a pixel belongs to its mask where the value is above this; not used for bool
            and packed masks.
        class_agnostic: whether masks of different classes decay each other, too.

    Returns:
        keep: int64 [<= post_nms], indices into the inputs, the best decayed score first; equal ones
            in the order of their original scores.
        scores: float32 [<= post_nms], the decayed scores of `keep`.

    Raises:
        ValueError: the kernel is unknown; masks are neither bool nor packed, nor floating-point
            with a `mask_threshold`; masks, labels and scores differ in number or device; labels are
            not integers, or scores are not floating-point.
    """
    order, decayed = matrix_nms_decay(
        masks, labels, scores, kernel, sigma, class_agnostic, mask_threshold, pre_nms
    )
    order, decayed = order[:post_nms], decayed[:post_nms]
    # The host has to wait once for the number of kept masks: selecting by bool tensors would wait
    # twice.
    (kept,) = (decayed >= threshold).nonzero(as_tuple=True)
    return order[kept], decayed[kept]


@torch.library.custom_op(
    "solo_family::matrix_nms_decay",
    mutates_args=(),
    schema=(
        "(Tensor masks, Tensor labels, Tensor scores, str kernel, float sigma, "
        "bool class_agnostic, float? mask_threshold=None, SymInt? pre_nms=None) -> (Tensor, Tensor)"
    ),
)
def matrix_nms_decay(
    masks: Tensor,
    labels: Tensor,
    scores: Tensor,
    kernel: str,
    sigma: float,
    class_agnostic: bool,
    mask_threshold: float | None = None,
    pre_nms: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Do matrix NMS without dropping anything, as one operator for torch.compile and torch.export.

    The size of its outputs follows from that of its inputs, so that the host never waits for it.

    Args:
        masks: see `matrix_nms`.
        labels: see `matrix_nms`.
        scores: see `matrix_nms`.
        kernel: see `matrix_nms`.
        sigma: see `matrix_nms`.
        class_agnostic: see `matrix_nms`.
        mask_threshold: see `matrix_nms`.
        pre_nms: see `matrix_nms`.

    Returns:
        order: int64 [n], n = min(N, pre_nms), indices into the inputs, the best decayed score
            first; equal ones in the order of their original scores.
        decayed: float32 [n], the decayed scores of `order`.

    Raises:
        ValueError: see `matrix_nms`.
    """
    check_kernel(kernel)
    if not is_packed(masks):
        check_masks(masks, mask_threshold)
        check_dimensions(masks)
    check_candidates(masks, labels, scores)
    if gpu_kernels.runs("bits", masks) and masks.dtype != torch.float64:
        classes = None if class_agnostic else labels
        arguments = masks, classes, scores, kernel, sigma, mask_threshold, pre_nms
        return matrix_nms_bits.matrix_nms_bits(*arguments)
    scores, order = scores.float().sort(descending=True, stable=True)
    scores, order = scores[:pre_nms], order[:pre_nms]
    labels = torch.zeros_like(order) if class_agnostic else labels[order]
    way = _way(masks, len(order), class_agnostic)
    factors = way(masks, order, labels, kernel, sigma, mask_threshold)
    decayed, rank = (scores * factors).sort(descending=True, stable=True)
    return order[rank], decayed


def _way(masks: Tensor, count: int, class_agnostic: bool) -> Callable[..., Tensor]:
    """Return the implementation that was measured to be fastest without single-bit tensor cores.

    It takes masks, rows and labels by descending score, and further arguments; see
    `decay_all_pairs`.
    """
    # Asking for the number of classes would make the host wait.
    one_large_class = class_agnostic and count >= _INT8_FROM
    suits_triton = count >= _TRITON_FROM and not one_large_class and masks.dtype != torch.float64
    if suits_triton and gpu_kernels.runs("nms", masks):
        # Not every machine has Triton.
        from .matrix_nms_triton import decay_by_class_triton

        return partial(_class_by_class, decay_by_class_triton)
    if masks.device.type == "cpu":
        return partial(_class_by_class, decay_by_class)
    return decay_all_pairs


def _class_by_class(
    decay: Callable[..., Tensor], masks: Tensor, rows: Tensor, labels: Tensor, *others: Any
) -> Tensor:
    # The sort is stable, so that within its class each mask still comes after the better ones.
    labels, by_class = labels.sort(stable=True)
    factors = torch.empty(len(rows), dtype=torch.float32, device=masks.device)
    factors[by_class] = decay(masks, rows[by_class], labels, *others)
    return factors


@matrix_nms_decay.register_fake
def _(
    masks: Tensor,
    labels: Tensor,
    scores: Tensor,
    kernel: str,
    sigma: float,
    class_agnostic: bool,
    mask_threshold: float | None = None,
    pre_nms: int | None = None,
) -> tuple[Tensor, Tensor]:
    count = len(scores) if pre_nms is None else torch.sym_min(len(scores), pre_nms)
    return labels.new_empty(count, dtype=torch.int64), scores.new_empty(count, dtype=torch.float32)
