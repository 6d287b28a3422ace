"""What every cell of a grid says of every class, after point NMS.

B images, C cells of all levels, K classes, S grid side (one per level).
"""

import torch
from torch import Tensor

from ...ops.point_nms import point_nms


def cell_scores_of(category_logits: list[Tensor]) -> Tensor:
    """Returns the probabilities of all levels' cells after point NMS.

    Args:
        category_logits: per level, [B, K, S, S].

    Returns:
        float32 [B, C, K], each level's cells row by row.
    """
    scores = [point_nms(level.float().sigmoid()).flatten(2) for level in category_logits]
    return torch.cat(scores, dim=2).transpose(1, 2)
