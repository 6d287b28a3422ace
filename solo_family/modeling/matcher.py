"""Match predictions with objects one to one (DETR, arXiv 2005.12872, section 3.1).

L decoder layers, B images, N predictions of an image, M the greatest number of objects of an image,
K copies of every object (1, but for auxiliary predictions), P pairs of all images: min(N, K times
the number of its objects) of each.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..ops.host_copy import HostCopy, to_device


class Matches(NamedTuple):
    """The pairs of every layer, image after image, by ascending prediction within an image.

    Attributes:
        predictions: int64 [L, P], indices among the B * N predictions of a layer.
        objects: int64 [L, P], indices among the objects of all images, one image after another.
        counts: the number of each image's pairs, the same in all layers.
    """

    predictions: Tensor
    objects: Tensor
    counts: list[int]


def hungarian_matching(costs: HostCopy, counts: Sequence[int], copies: int = 1) -> Matches:
    """Return the pairs with the lowest total cost, for each layer and image.

    All costs are copied to the host at once, and all pairs back at once.

    Args:
        costs: float32 [L, B, N, M]. A cost that is not finite is chosen only if no other pair is
            left.
        counts: the number of each image's objects, whose costs come first; those after them are
            ignored.
        copies: K; every object is matched with K predictions, as far as there are enough.

    Returns:
        The pairs, on the device that the costs came from.
    """
    # A twelfth of the time that the imports of a training take, and SOLO's need no matching.
    from scipy.optimize import linear_sum_assignment

    on_host = costs.wait().double().numpy()
    num_layers, _, num_predictions, _ = on_host.shape
    pairs = [min(num_predictions, copies * count) for count in counts]
    ends = np.cumsum([0, *pairs])
    result = np.empty((2, num_layers, ends[-1]), dtype=np.int64)
    for layer in range(num_layers):
        first_object = 0
        for image, count in enumerate(counts):
            cost = _finite(np.tile(on_host[layer, image, :, :count], copies))
            rows, columns = linear_sum_assignment(cost)
            here = slice(ends[image], ends[image + 1])
            result[0, layer, here] = rows + image * num_predictions
            result[1, layer, here] = columns % max(count, 1) + first_object
            first_object += count
    predictions, objects = to_device([torch.from_numpy(result)], costs.device)[0]
    return Matches(predictions, objects, pairs)


def _finite(cost: np.ndarray) -> np.ndarray:
    """Replace costs that are not finite by more than any two finite assignments can differ."""
    finite = np.isfinite(cost)
    if finite.all():
        return cost
    known = cost[finite]
    low, high = (known.min(), known.max()) if known.size else (0.0, 0.0)
    return np.where(finite, cost, high + (high - low) * min(cost.shape) + 1)
