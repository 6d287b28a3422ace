"""Suppress neighbouring grid cells, as in the published inference of SOLO and SOLOv2.

B images, K classes, S grid side.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def point_nms(scores: Tensor) -> Tensor:
    """Keep the scores that are the largest of their 2x2 neighbourhood; set the others to 0.

    A cell is compared with itself and its upper, left and upper-left neighbours, class by class.
    That is asymmetric by design, as in the published models' inference: a cell survives beside a
    larger one to its right or below. Ties survive as well.

    Args:
        scores: floating-point [B, K, S, S].

    Returns:
        [B, K, S, S], in the scores' dtype.

    Raises:
        ValueError: scores are not floating-point with four dimensions.
    """
    if scores.ndim != 4 or not scores.is_floating_point():
        raise ValueError(
            f"scores must be floating-point [B, K, S, S], but are {scores.dtype} of the shape "
            f"{tuple(scores.shape)}"
        )
    # The padding that completes the first row and column adds one of each at the other end.
    largest = F.max_pool2d(scores, kernel_size=2, stride=1, padding=1)[..., :-1, :-1]
    return scores.masked_fill(scores != largest, 0)
