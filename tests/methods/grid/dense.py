"""Selected instances whose masks are tensors, to be compared."""

from typing import NamedTuple

from torch import Tensor

from solo_family.methods.grid.selection import Selected


class Dense(NamedTuple):
    """See `Selected`."""

    scores: Tensor
    classes: Tensor
    masks: Tensor


def dense(found: Selected) -> Dense:
    """Decode all masks."""
    return Dense(found.scores, found.classes, found.masks[:])
