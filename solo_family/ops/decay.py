"""By how much better masks lower a score (SOLOv2, arXiv 2003.10152, Eqs. 3 to 5).

Shape letters: N masks.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


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
    check_kernel(kernel)
    if len(labels) == 0:
        return iou.new_ones(0, dtype=torch.float32)
    same_class = labels[:, None] == labels
    iou = torch.where(same_class, iou.float(), 0).triu(diagonal=1)
    compensation = iou.amax(dim=0)[:, None]
    # The minimum may run over every row: row 0 has no compensation, so gives at most 1, and the
    # rows that the triangle and the classes left at an IoU of 0 give at least 1.
    return _KERNEL_RATIOS[kernel](iou, compensation, sigma).amin(dim=0)


def check_kernel(kernel: str) -> None:
    """Raises ValueError for a kernel that matrix NMS doesn't have."""
    if kernel not in _KERNEL_RATIOS:
        allowed = ", ".join(repr(name) for name in _KERNEL_RATIOS)
        raise ValueError(f"unknown matrix NMS kernel {kernel!r}: choose one of {allowed}")


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
