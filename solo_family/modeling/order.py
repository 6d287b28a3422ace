"""Select without waiting: sort the selected items to the front, and copy their number later.

N candidates; any dimensions in front.
"""

from torch import Tensor


def set_first(flags: Tensor) -> Tensor:
    """Return the indices of all flags, set ones first, in order: int64 of bool [..., N]."""
    return flags.logical_not().byte().sort(dim=-1, stable=True).indices


def waits(tensor: Tensor) -> bool:
    """Return whether the host would wait for a tensor's values, which it does except on a CPU.

    On a CPU, work that turns out not to be needed costs more than reading them.
    """
    return tensor.device.type != "cpu"
