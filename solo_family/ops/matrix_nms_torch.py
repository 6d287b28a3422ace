"""Do matrix NMS in torch (SOLOv2, NeurIPS 2020, arXiv 2003.10152, section 2.2, Eqs. 3 and 4).

N masks; n the best of them that take part; h w the masks' size; W words of a packed mask.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .masks import binary_masks, iou_from, later_intersections, row_blocks
from .packed_masks import unpacked_rows
from .take import take_rows


def decay_factors(
    iou: Tensor, labels: Tensor, *, kernel: str = "gaussian", sigma: float = 2.0
) -> Tensor:
    """Return the factor by which matrix NMS multiplies each score.

    With f the kernel, and i, k over the better-scored masks of the same class::

        decay_j = min_{i<j} f(iou_ij) / f(c_i),    c_i = max_{k<i} iou_ki

    where c_i, the compensation, measures how far mask i is suppressed itself; f(c_i) is f(iou_.,i)
    of Eq. 3, since f falls. The kernels are f(x) = exp(-sigma x^2), as in the published code (the
    paper writes the same sigma as a divisor), and f(x) = 1 - x.

    Args:
        iou: [..., N, N], symmetric, in [0, 1], rows by descending score.
        labels: int64 [..., N], in the same order.
        kernel: "gaussian" or "linear".
        sigma: strength of the Gaussian kernel; the linear kernel has none.

    Returns:
        float32 [..., N] in [0, 1]; the first is 1.
    """
    if labels.shape[-1] == 0:
        return iou.new_ones(labels.shape, dtype=torch.float32)
    same_class = labels[..., :, None] == labels[..., None, :]
    iou = torch.where(same_class, iou.float(), 0).triu(diagonal=1)
    compensation = iou.amax(dim=-2)[..., :, None]
    # The minimum may run over every row: row 0 has no compensation, so that its ratio is at most 1,
    # and the rows with an IoU of 0, because of the triangle or the classes, have a ratio of at
    # least 1.
    return _KERNEL_RATIOS[kernel](iou, compensation, sigma).amin(dim=-2)


def _gaussian_ratio(iou: Tensor, compensation: Tensor, sigma: float) -> Tensor:
    # One exponential of the difference: a quotient of two would be 0 / 0 for a large sigma.
    return torch.exp(sigma * (compensation**2 - iou**2))


def _linear_ratio(iou: Tensor, compensation: Tensor, sigma: float) -> Tensor:
    # A compensation of 1 means that i repeats a better mask k, so that iou_ij = iou_kj: row k
    # covers row i, and 0 / 0 is left out of the minimum.
    return torch.where(compensation < 1, (1 - iou) / (1 - compensation), torch.inf)


_KERNEL_RATIOS: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    "gaussian": _gaussian_ratio,
    "linear": _linear_ratio,
}


def decay_by_class(
    masks: Tensor,
    rows: Tensor,
    labels: Tensor,
    kernel: str,
    sigma: float,
    mask_threshold: float | None,
) -> Tensor:
    """Compute `decay_factors` from masks, class by class, on a CPU: elsewhere the host would wait.

    Args:
        masks: [N, h, w], or int32 [N, W], see `matrix_nms`.
        rows: int64 [n], indices of the masks: class by class, and by descending score within each.
        labels: int64 [n], ascending, of `rows`.
        kernel: see `matrix_nms`.
        sigma: see `matrix_nms`.
        mask_threshold: see `matrix_nms`.

    Returns:
        float32 [n] in [0, 1].
    """
    factors = [torch.ones(0, dtype=torch.float32, device=masks.device)]
    for group in rows.split(labels.unique_consecutive(return_counts=True)[1].tolist()):
        inside = unpacked_rows(masks, group, mask_threshold)
        factors.append(_decay_in_blocks(inside, torch.zeros_like(group), kernel, sigma))
    return torch.cat(factors)


def decay_all_pairs(
    masks: Tensor,
    rows: Tensor,
    labels: Tensor,
    kernel: str,
    sigma: float,
    mask_threshold: float | None,
) -> Tensor:
    """Compute `decay_factors` from masks in a single product over pairs of any classes.

    Args:
        masks: see `decay_by_class`.
        rows: int64 [n], indices of the masks, by descending score.
        labels: int64 [n], of `rows`.
        kernel: see `matrix_nms`.
        sigma: see `matrix_nms`.
        mask_threshold: see `matrix_nms`.

    Returns:
        float32 [n] in [0, 1].
    """
    return _decay_in_blocks(unpacked_rows(masks, rows, mask_threshold), labels, kernel, sigma)


def _decay_in_blocks(inside: Tensor, labels: Tensor, kernel: str, sigma: float) -> Tensor:
    """Compute `decay_factors` from masks with n^2 integers of 4 bytes and, beside them, few rows.

    Args:
        inside: bool [n, ...], the best first.
        labels: int64 [n].
        kernel: see `decay_factors`.
        sigma: see `decay_factors`.
    """
    count, blocks = len(inside), row_blocks(len(inside))
    intersections = later_intersections(inside)
    # The intersection of a mask with itself is its area.
    areas = intersections.diagonal().long()

    def better(block: slice) -> Tensor:
        """Return the IoU of a block's masks with worse ones of their class; 0 with others."""
        worse = slice(block.start, None)
        shared = intersections[block, worse].long()
        iou = iou_from(shared, areas[block], areas[worse])
        return torch.where(labels[block, None] == labels[worse], iou, 0).triu(diagonal=1)

    compensation = torch.zeros(count, dtype=torch.float32, device=inside.device)
    for block in blocks:
        most = compensation[block.start :]
        torch.maximum(most, better(block).amax(dim=0), out=most)
    # See `decay_factors` for why no row need be left out.
    factors = torch.ones(count, dtype=torch.float32, device=inside.device)
    for block in blocks:
        least = factors[block.start :]
        ratios = _KERNEL_RATIOS[kernel](better(block), compensation[block, None], sigma)
        torch.minimum(least, ratios.amin(dim=0), out=least)
    return factors


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
    """Compute `matrix_nms_decay` in a few plain operations, all of which ONNX has.

    Every mask is compared with every other one, in a single float32 product of [n, h w]: exact
    while a mask has fewer than 2**24 pixels, outside autocast and without TF32.

    Masks, labels and scores may be those of a batch, with B as first dimension, as the results are
    then.

    Args:
        masks: see `matrix_nms_decay`.
        labels: see `matrix_nms_decay`.
        scores: see `matrix_nms_decay`.
        kernel: see `matrix_nms_decay`.
        sigma: see `matrix_nms_decay`.
        class_agnostic: see `matrix_nms_decay`.
        mask_threshold: see `matrix_nms_decay`.
        pre_nms: see `matrix_nms_decay`.

    Returns:
        order, decayed: see `matrix_nms_decay`.
    """
    scores, order = _sort(scores.float())
    scores, order = scores[..., :pre_nms], order[..., :pre_nms]
    labels = torch.zeros_like(order) if class_agnostic else labels.gather(-1, order)
    pixels = take_rows(binary_masks(masks, mask_threshold), order).flatten(-2).float()
    intersections, areas = pixels @ pixels.transpose(-2, -1), pixels.sum(dim=-1)
    iou = iou_from(intersections, areas, areas)
    decayed = scores * decay_factors(iou, labels, kernel=kernel, sigma=sigma)
    decayed, rank = _sort(decayed)
    return order.gather(-1, rank), decayed


def _sort(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Sort scores, the best first; equal ones keep their order."""
    if torch.onnx.is_in_onnx_export():
        # ONNX has no stable sort to export to, but its TopK is stable.
        return scores.sort(descending=True)
    return scores.sort(descending=True, stable=True)
