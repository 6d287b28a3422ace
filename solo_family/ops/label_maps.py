"""Find the class of every pixel: the first with the greatest of its scores.

Along the first axis torch's argmax takes one number after another. The greatest score, what equals
it, and the first of these are found a vector at a time, and in blocks that stay in the cache.

K classes, H W of the picture, n of its pixels.
"""

from typing import Any

import torch
from torch import Tensor

# Pixels of a block: the scores of all classes fit the cache of one core.
COLUMNS = 1024


def class_of_pixels(scores: Any) -> Tensor:
    """Return what `scores.argmax(0)` does.

    Args:
        scores: a tensor [K, H, W], or what has `argmax` and stands for one.

    Returns:
        int64 [H, W], on the device of the scores.
    """
    if not isinstance(scores, Tensor) or scores.device.type != "cpu" or not scores.numel():
        return scores.argmax(0)
    labels = torch.empty(scores.shape[1:], dtype=torch.int64, device="cpu")
    equal = torch.empty((len(scores), COLUMNS), device="cpu")
    places = falling_places(len(scores))
    flat = scores.flatten(1)
    for some, found in zip(flat.split(COLUMNS, 1), labels.view(-1).split(COLUMNS)):
        greatest = some.amax(0)
        found.copy_(_first(torch.eq(some, greatest, out=equal[:, : len(found)]), places))
    # NaN equals nothing.
    return labels if labels.max() < len(scores) else scores.argmax(0)


def first_greatest_(scores: Tensor, places: Tensor) -> Tensor:
    """Return the first class with the greatest score of each pixel, float32 [n]; K if it is NaN.

    Args:
        scores: float32 [K, n] on a CPU; it is overwritten.
        places: result of `falling_places`.
    """
    return _first(scores.eq_(scores.amax(0)), places)


def falling_places(count: int) -> Tensor:
    """Return float32 [K, 1] from K down to 1."""
    return torch.arange(count, 0, -1, dtype=torch.float32, device="cpu")[:, None]


def _first(equal: Tensor, places: Tensor) -> Tensor:
    return len(places) - equal.mul_(places).amax(0)
