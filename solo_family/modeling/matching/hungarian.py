"""Bipartite matching of predictions with objects (DETR, arXiv 2005.12872, section 3.1).

N predictions, G objects, k = min(N, G) pairs.
"""

from collections.abc import Sequence

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

# The k pairs of an image: indices of its predictions, ascending, and of the objects they found.
Match = tuple[Tensor, Tensor]


@torch.no_grad()
def hungarian_matching(costs: Sequence[Tensor]) -> list[Match]:
    """Returns the pairs of least total cost, for each of several cost matrices.

    All matrices go to the host in one transfer, and all pairs come back in one.

    Args:
        costs: float [N, G] each, on one device; N and G may differ and may be 0. A cost that is
            not finite is chosen only where no other pair is left.

    Returns:
        For each matrix two int64 tensors [k] on the costs' device.
    """
    if not costs:
        return []
    device = costs[0].device
    on_host = torch.cat([cost.float().flatten() for cost in costs]).cpu().double().numpy()
    parts = np.split(on_host, np.cumsum([cost.numel() for cost in costs])[:-1])
    pairs = [
        np.stack(linear_sum_assignment(_finite(part.reshape(cost.shape))))
        for part, cost in zip(parts, costs)
    ]
    on_device = torch.from_numpy(np.concatenate(pairs, axis=1)).to(device, torch.int64)
    return [tuple(match) for match in on_device.split([pair.shape[1] for pair in pairs], dim=1)]


def _finite(cost: np.ndarray) -> np.ndarray:
    """Replaces what is not finite by more than any whole assignment of finite costs can differ."""
    finite = np.isfinite(cost)
    if finite.all():
        return cost
    known = cost[finite]
    low, high = (known.min(), known.max()) if known.size else (0.0, 0.0)
    return np.where(finite, cost, high + (high - low) * min(cost.shape) + 1)
