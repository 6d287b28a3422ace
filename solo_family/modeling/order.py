"""Choosing without waiting: those that are chosen come first, and how many they are travels later.

N candidates; any dimensions in front.
"""

from torch import Tensor


def set_first(flags: Tensor) -> Tensor:
    """Return the indices of all, those that are set first, in order: int64 of bool [..., N]."""
    return flags.logical_not().byte().sort(dim=-1, stable=True).indices


def waits(tensor: Tensor) -> bool:
    """Whether the host would wait for a tensor's values: where it computes them itself it does not.

    There, work that turns out not to be needed costs more than to ask.
    """
    return tensor.device.type != "cpu"
