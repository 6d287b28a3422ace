"""Copy between the host and a GPU without making either side wait.

A copy from ordinary memory waits until the GPU has finished all earlier work; one from page-locked
memory is queued behind it.
"""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

# Parts of a buffer begin at multiples of this, so that any dtype and vector loads are aligned.
_ALIGNMENT = 64


class HostCopy:
    """A tensor's copy on its way to the host; other work may be queued behind it meanwhile.

    Args:
        tensor: any dtype and device. Its copy from a GPU goes through pinned memory, so that only
            `wait` waits, and not for anything that was queued later.
    """

    def __init__(self, tensor: Tensor) -> None:
        tensor = tensor.detach()
        self.device = tensor.device
        self._event: torch.cuda.Event | None = None
        if tensor.is_cuda:
            self._copy = torch.empty(
                tensor.shape, dtype=tensor.dtype, device="cpu", pin_memory=True
            )
            self._copy.copy_(tensor, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record(torch.cuda.current_stream(tensor.device))
        else:
            self._copy = tensor.to("cpu") if tensor.device.type != "cpu" else tensor

    def wait(self) -> Tensor:
        """Return the copy, on the CPU, as soon as it is complete."""
        if self._event is not None:
            self._event.synchronize()
        return self._copy


def to_device(tensors: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    """Move tensors to a device; to a GPU, all that are on the host as one queued copy.

    The host's tensors may be overwritten afterwards, also those in page-locked memory.

    Args:
        tensors: tensors of any dtypes and sizes, on any devices.
        device: the destination.

    Returns:
        The same values and dtypes. Tensors that were copied share one storage; those that are on
        the device already are returned as they are.
    """
    if device.type != "cuda":
        return [tensor.to(device) for tensor in tensors]
    # A gradient can't flow through a buffer of bytes.
    travels = [tensor.device.type == "cpu" and not tensor.requires_grad for tensor in tensors]
    travelling = [tensor for tensor, travel in zip(tensors, travels) if travel]
    if not travelling:
        return [tensor.to(device, non_blocking=True) for tensor in tensors]
    buffer = pack(travelling, pin=True).to(device, non_blocking=True)
    arrived = iter(unpack(buffer, travelling))
    return [
        next(arrived) if travel else tensor.to(device, non_blocking=True)
        for tensor, travel in zip(tensors, travels)
    ]


def pack(tensors: Sequence[Tensor], pin: bool = False) -> Tensor:
    """Write tensors of the host into one buffer of bytes, one after the other.

    Args:
        tensors: tensors of any dtypes, sizes and strides.
        pin: whether the buffer is in page-locked memory. PyTorch keeps such buffers, and reuses one
            only when all copies from it have finished.

    Returns:
        uint8 [bytes], which `unpack` reads.
    """
    starts = _starts(tensors)
    buffer = torch.empty(starts[-1], dtype=torch.uint8, device="cpu", pin_memory=pin)
    for part, tensor in zip(unpack(buffer, tensors), tensors):
        part.copy_(tensor)
    return buffer


def unpack(buffer: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """Return the tensors that `pack` wrote, as contiguous views of the buffer.

    Args:
        buffer: uint8 [bytes], on any device.
        like: tensors with the dtypes and sizes of the packed ones.
    """
    return [
        buffer[start : start + tensor.element_size() * tensor.numel()]
        .view(tensor.dtype)
        .view(tensor.shape)
        for start, tensor in zip(_starts(like), like)
    ]


def _starts(tensors: Sequence[Tensor]) -> list[int]:
    """Return the byte at which every tensor begins, and at last the number of bytes."""
    starts = [0]
    for tensor in tensors:
        count = tensor.element_size() * prod(tensor.shape)
        starts.append(starts[-1] + -(-count // _ALIGNMENT) * _ALIGNMENT)
    return starts
