"""Matrix NMS (SOLOv2, arXiv 2003.10152, section 3.3).

Shape letters: N masks; n the best of them that take part; h w the masks' size.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from solo_family.ops.mask_iou import mask_iou


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

    The masks may come in any order; equal scores keep the order they came in. All arithmetic is
    in float32, whatever the inputs' dtype and also under autocast.

    Args:
        masks: bool [N, h, w], or floating-point probabilities with a `mask_threshold`.
        labels: int64 [N].
        scores: floating-point [N].
        kernel: "gaussian" or "linear".
        sigma: the gaussian kernel's strength; the linear kernel has none.
        pre_nms: how many of the best-scored masks take part; None for all.
        post_nms: how many masks to return at most; None for all.
        threshold: the smallest decayed score to return.
        mask_threshold: a pixel belongs to its mask where the probability is above this; bool
            masks have no use for it.
        class_agnostic: whether masks of different classes decay each other too.

    Returns:
        keep: int64 [<= post_nms], indices into the inputs, the best decayed score first; equal
            ones in the order of their original scores.
        scores: float32 [<= post_nms], the decayed scores of `keep`.

    Raises:
        ValueError: for an unknown kernel, or masks that are neither bool nor floating-point
            with a `mask_threshold`.
    """
    order, decayed = matrix_nms_decay(
        masks, labels, scores, kernel, sigma, class_agnostic, mask_threshold, pre_nms
    )
    order, decayed = order[:post_nms], decayed[:post_nms]
    # How many are kept is what the host has to wait for, and the only thing.
    confident = decayed >= threshold
    return order[confident], decayed[confident]


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
    """Matrix NMS before anything is dropped: one operator to torch.compile and torch.export.

    Its outputs' size follows from that of the inputs, so that the host never waits for it.

    Args:
        masks, labels, scores, and the others: see `matrix_nms`.

    Returns:
        order: int64 [n], n = min(N, pre_nms), indices into the inputs, the best decayed score
            first; equal ones in the order of their original scores.
        decayed: float32 [n], the decayed scores of `order`.

    Raises:
        ValueError: see `matrix_nms`.
    """
    scores, order = scores.float().sort(descending=True, stable=True)
    scores, order = scores[:pre_nms], order[:pre_nms]
    labels = torch.zeros_like(order) if class_agnostic else labels[order]
    iou = mask_iou(binary_masks(masks, mask_threshold)[order])
    decayed = scores * decay_factors(iou, labels, kernel=kernel, sigma=sigma)
    decayed, rank = decayed.sort(descending=True, stable=True)
    return order[rank], decayed


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


def matrix_nms_plain(
    masks: Tensor,
    labels: Tensor,
    scores: Tensor,
    kernel: str,
    sigma: float,
    class_agnostic: bool,
    mask_threshold: float | None = None,
    pre_nms: int | None = None,
) -> tuple[Tensor, Tensor]:
    """`matrix_nms_decay` in few plain operations, all of which ONNX has.

    Every mask is compared with every other one, in a single float32 product of [n, h w]: exact
    while a mask has fewer than 2**24 pixels, outside autocast and without TF32.
    Equal scores keep their order where a sort is stable that does not promise it, as ONNX's TopK
    and torch's on a CPU are: ONNX has no stable one.

    Args:
        masks, and the others: see `matrix_nms_decay`.

    Returns:
        order, decayed: see `matrix_nms_decay`.

    Raises:
        ValueError: see `matrix_nms`.
    """
    scores, order = scores.float().sort(descending=True)
    scores, order = scores[:pre_nms], order[:pre_nms]
    labels = torch.zeros_like(order) if class_agnostic else labels[order]
    pixels = binary_masks(masks, mask_threshold)[order].flatten(1).float()
    intersections, areas = pixels @ pixels.T, pixels.sum(dim=1)
    # An empty union has an empty intersection: 0 / 1 makes its IoU 0 rather than NaN.
    iou = intersections / (areas[:, None] + areas - intersections).clamp(min=1)
    decayed = scores * decay_factors(iou, labels, kernel=kernel, sigma=sigma)
    decayed, rank = decayed.sort(descending=True)
    return order[rank], decayed


def decay_factors(
    iou: Tensor, labels: Tensor, *, kernel: str = "gaussian", sigma: float = 2.0
) -> Tensor:
    """The factor by which matrix NMS multiplies each score.

    With f the kernel, and i, k over the better-scored masks of the same class::

        decay_j = min_{i<j} f(iou_ij) / f(c_i),    c_i = max_{k<i} iou_ki

    where c_i, the compensation, stands for how far mask i is suppressed itself. The kernels are
    f(x) = exp(-sigma x^2), as in the published code (the paper writes the same sigma as a
    divisor), and f(x) = 1 - x.

    Args:
        iou: [N, N], symmetrical, in [0, 1], rows by descending score.
        labels: int64 [N], in the same order.
        kernel: "gaussian" or "linear".
        sigma: the gaussian kernel's strength; the linear kernel has none.

    Returns:
        float32 [N] in [0, 1]; the first is 1.

    Raises:
        ValueError: for an unknown kernel.
    """
    if kernel not in _KERNEL_RATIOS:
        allowed = ", ".join(repr(name) for name in _KERNEL_RATIOS)
        raise ValueError(f"unknown matrix NMS kernel {kernel!r}: choose one of {allowed}")
    if len(labels) == 0:
        return iou.new_ones(0, dtype=torch.float32)
    same_class = labels[:, None] == labels
    iou = torch.where(same_class, iou.float(), 0).triu(diagonal=1)
    compensation = iou.amax(dim=0)[:, None]
    # The minimum may run over every row: row 0 has no compensation, so gives at most 1, and the
    # rows that the triangle and the classes left at an IoU of 0 give at least 1.
    return _KERNEL_RATIOS[kernel](iou, compensation, sigma).amin(dim=0)


def _gaussian_ratio(iou: Tensor, compensation: Tensor, sigma: float) -> Tensor:
    # One exponential of the difference: a quotient of two would be 0 / 0 for a large sigma.
    return torch.exp(sigma * (compensation**2 - iou**2))


def _linear_ratio(iou: Tensor, compensation: Tensor, sigma: float) -> Tensor:
    # A compensation of 1 means that i repeats a better mask k, so that iou_ij = iou_kj: row k
    # has already said what row i could, and 0 / 0 is left out of the minimum.
    return torch.where(compensation < 1, (1 - iou) / (1 - compensation), torch.inf)


_KERNEL_RATIOS: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    "gaussian": _gaussian_ratio,
    "linear": _linear_ratio,
}


def binary_masks(masks: Tensor, mask_threshold: float | None) -> Tensor:
    """Masks as bool, thresholded where they are probabilities; see `matrix_nms`."""
    if masks.dtype == torch.bool:
        return masks
    if not masks.is_floating_point():
        raise ValueError(
            f"masks must be bool or floating-point probabilities, but are {masks.dtype}: "
            "convert them, for example with `masks.bool()`"
        )
    if mask_threshold is None:
        raise ValueError(
            f"masks of {masks.dtype} are taken for probabilities, which need a mask_threshold: "
            "pass one, for example mask_threshold=0.5, or pass bool masks"
        )
    # A Python number would be rounded to the masks' half precision before the comparison, and
    # a tensor without dimensions too; one with a dimension makes it a float32 comparison.
    dtype = torch.promote_types(masks.dtype, torch.float32)
    return masks > masks.new_full((1,), mask_threshold, dtype=dtype)
