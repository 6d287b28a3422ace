"""Copies between the host and a GPU that neither side waits for."""

import torch
from torch import Tensor


class HostCopy:
    """A tensor's copy on its way to the host; work may be queued behind it meanwhile.

    Args:
        tensor: any dtype and device. Its copy from a GPU goes through pinned memory, so that only
            `wait` waits, and for nothing that was queued later.
    """

    def __init__(self, tensor: Tensor) -> None:
        tensor = tensor.detach()
        self.device = tensor.device
        self._event: torch.cuda.Event | None = None
        if tensor.is_cuda:
            self._copy = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
            self._copy.copy_(tensor, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record(torch.cuda.current_stream(tensor.device))
        else:
            self._copy = tensor.to("cpu") if tensor.device.type != "cpu" else tensor

    def wait(self) -> Tensor:
        """Returns the copy, on the CPU, as soon as it is there."""
        if self._event is not None:
            self._event.synchronize()
        return self._copy


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Returns a tensor of the host on a device; a GPU gets it when its queue comes to it.

    The pinned memory in between belongs to torch's allocator, which keeps it until then.
    """
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
