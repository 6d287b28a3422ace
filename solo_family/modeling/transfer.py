"""How pictures and ground truth get to a GPU, and results back, without waiting for it.

A copy from ordinary memory waits until the GPU has done all that it was asked for before; one from
page-locked memory is queued behind it.
"""

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from detectron2.structures import BitMasks, Boxes, Instances
from torch import Tensor

# What parts of one buffer begin at multiples of: any dtype may lie there, and vector loads.
_ALIGNMENT = 64


def to_device(tensors: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    """Moves tensors to a device; to a GPU, all that are on the host as one queued copy.

    The host's tensors are free to be overwritten afterwards, those in page-locked memory too.

    Args:
        tensors: of any dtypes and sizes, on any devices.
        device: where they are wanted.

    Returns:
        The same values and dtypes. Those that travelled share one storage, those that are there
        already are returned as they are.
    """
    if device.type != "cuda":
        return [tensor.to(device) for tensor in tensors]
    # A gradient does not find its way through a buffer of bytes.
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
    """Writes tensors of the host into one buffer of bytes, one after the other.

    Args:
        tensors: of any dtypes, sizes and strides.
        pin: whether the buffer is in page-locked memory. PyTorch keeps such buffers, and gives one
            out again only when the copies from it are done.

    Returns:
        uint8 [bytes], which `unpack` reads.
    """
    starts = _starts(tensors)
    buffer = torch.empty(starts[-1], dtype=torch.uint8, device="cpu", pin_memory=pin)
    for part, tensor in zip(unpack(buffer, tensors), tensors):
        part.copy_(tensor)
    return buffer


def unpack(buffer: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """Returns what `pack` wrote of some tensors, as views of the buffer, contiguous each.

    Args:
        buffer: uint8 [bytes], on any device.
        like: tensors of the dtypes and sizes of those that were packed.
    """
    return [
        buffer[start : start + tensor.element_size() * tensor.numel()]
        .view(tensor.dtype)
        .view(tensor.shape)
        for start, tensor in zip(_starts(like), like)
    ]


def _starts(tensors: Sequence[Tensor]) -> list[int]:
    """Returns at which byte every tensor begins, and how many bytes there are at last."""
    starts = [0]
    for tensor in tensors:
        count = tensor.element_size() * prod(tensor.shape)
        starts.append(starts[-1] + -(-count // _ALIGNMENT) * _ALIGNMENT)
    return starts


def normalise(
    images: Sequence[Tensor], mean: Tensor, std: Tensor, size_divisibility: int
) -> Tensor:
    """Subtracts the mean, divides by the deviation, and pads to one size with 0.

    Args:
        images: [C, h, w] of any dtype, on the device of the mean.
        mean, std: [C, 1, 1].
        size_divisibility: H and W are multiples of it.

    Returns:
        [B, C, H, W] of the mean's dtype.
    """
    height, width = (
        -(-max(sides) // size_divisibility) * size_divisibility
        for sides in zip(*(image.shape[-2:] for image in images))
    )
    # What is padded with the mean becomes 0 with the rest; nothing is copied once more.
    batch = mean.expand(len(images), len(mean), height, width).clone(
        memory_format=torch.contiguous_format
    )
    for index, image in enumerate(images):
        batch[index, :, : image.shape[-2], : image.shape[-1]].copy_(image)
    return batch.sub_(mean).div_(std)


def instances_to_device(instances: Sequence[Instances], device: torch.device) -> list[Instances]:
    """Moves the ground truth of a batch with all its fields, as `Instances.to`, but together.

    Args:
        instances: per image.
        device: where they are wanted.
    """
    values = [value for image in instances for value in image.get_fields().values()]
    tensors = [_tensor_of(value) for value in values]
    arrived = iter(to_device([tensor for tensor in tensors if tensor is not None], device))
    moved = []
    for image in instances:
        there = Instances(image.image_size)
        for name, value in image.get_fields().items():
            if _tensor_of(value) is not None:
                tensor = next(arrived)
                value = tensor if isinstance(value, Tensor) else type(value)(tensor)
            elif hasattr(value, "to"):
                value = value.to(device)
            there.set(name, value)
        moved.append(there)
    return moved


def _tensor_of(field: Any) -> Tensor | None:
    """Returns the one tensor that a field of `Instances` is made of, or None."""
    if isinstance(field, Tensor):
        return field
    return field.tensor if type(field) in (Boxes, BitMasks) else None


class ToHost:
    """A tensor on its way to the host: waiting for it is not waiting for what is queued after it.

    Args:
        tensor: on any device.
    """

    def __init__(self, tensor: Tensor) -> None:
        self._arrived: torch.cuda.Event | None = None
        self._copy = tensor
        if tensor.device.type == "cuda":
            self._copy = tensor.to("cpu", non_blocking=True)
            self._arrived = torch.cuda.Event()
            self._arrived.record(torch.cuda.current_stream(tensor.device))

    def tolist(self) -> list[Any]:
        """Waits for the values, and returns them."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return self._copy.tolist()


def to_host(tensors: Sequence[Tensor]) -> list[list[float]]:
    """Reads the values of several tensors of one device with one wait: flattened, as float64."""
    values = ToHost(torch.cat([tensor.flatten().double() for tensor in tensors])).tolist()
    sizes = [tensor.numel() for tensor in tensors]
    starts = [sum(sizes[:index]) for index in range(len(sizes))]
    return [values[start : start + size] for start, size in zip(starts, sizes)]
