"""Compute boxes, IoU and matrix NMS of binary masks in numpy, as `solo_family.ops` does in torch.

N, M masks; h w the masks' size.
"""

import math

import numpy as np


def mask_boxes(masks: np.ndarray) -> np.ndarray:
    """Return tight boxes of bool [N, h, w], float32 [N, 4]; zeros for a mask without pixels.

    They are x0, y0, x1, y1 in pixels of the masks, x1 and y1 exclusive.
    """
    x0, x1 = _extents(np.any(masks, axis=1))
    y0, y1 = _extents(np.any(masks, axis=2))
    return np.stack([x0, y0, x1, y1], axis=1).astype(np.float32)


def _extents(occupied: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if not occupied.size:
        return np.zeros(len(occupied)), np.zeros(len(occupied))
    any_cell = occupied.any(axis=1)
    first = occupied.argmax(axis=1)
    stop = occupied.shape[1] - occupied[:, ::-1].argmax(axis=1)
    return np.where(any_cell, first, 0), np.where(any_cell, stop, 0)


def mask_iou(masks: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the IoU of bool [N, h, w] with bool [M, h, w].

    Returns:
        float32 [N, M] in [0, 1]; 0 where the union is empty. Exact while no mask has 2**24 pixels.
    """
    a, b = (
        part.reshape(len(part), math.prod(part.shape[1:])).astype(np.float32)
        for part in (masks, others)
    )
    intersections = a @ b.T
    return intersections / (a.sum(1)[:, None] + b.sum(1) - intersections).clip(min=1)


def decay_factors(iou: np.ndarray, kernel: str, sigma: float) -> np.ndarray:
    """Return the factors of matrix NMS within one class (SOLOv2, arXiv 2003.10152, section 2.2).

    Args:
        iou: float32 [N, N], symmetric, rows by descending score.
        kernel: "gaussian" or "linear".
        sigma: strength of the Gaussian kernel.

    Returns:
        float32 [N] in [0, 1]; see `ops.matrix_nms_torch.decay_factors`.
    """
    if not len(iou):
        return np.zeros(0, np.float32)
    iou = np.triu(iou, k=1)
    compensation = iou.max(axis=0)[:, None]
    if kernel == "gaussian":
        return np.exp(sigma * (compensation**2 - iou**2)).min(axis=0)
    ratio = np.where(
        compensation < 1, (1 - iou) / np.where(compensation < 1, 1 - compensation, 1), np.inf
    )
    return ratio.min(axis=0)
