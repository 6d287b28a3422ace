"""Copy images and ground truth to a GPU, and results back, without needless waits."""

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.structures import BitMasks, Boxes, Instances
from torch import Tensor

from ..ops import gpu_kernels
from ..ops.channels_last import MOST_VALUES
from ..ops.host_copy import HostCopy, to_device


def round_up(number: int, step: int) -> int:
    """Return the least multiple of `step` that is not below a number."""
    return -(-number // step) * step


def padded_size(
    images: Sequence[Tensor], size_divisibility: int, least: Sequence[int] = (0, 0)
) -> tuple[int, int]:
    """Return the height and the width that images of a batch are padded to.

    Args:
        images: one tensor [..., h, w] per image.
        size_divisibility: both are multiples of this.
        least: the height and the width that a larger batch needs, of which these are a part.
    """
    height, width = (
        round_up(max(sides), size_divisibility)
        for sides in zip(least, *(image.shape[-2:] for image in images))
    )
    return height, width


def normalise(
    images: Sequence[Tensor],
    mean: Tensor,
    std: Tensor,
    size_divisibility: int,
    least: Sequence[int] = (0, 0),
    dtype: torch.dtype = torch.float32,
    channels_last: bool = False,
) -> Tensor:
    """Subtract the mean, divide by the standard deviation, and pad with 0 to one size.

    This is computed in the mean's dtype, and rounded once.

    Args:
        images: one tensor [C, h, w] per image, of any dtype, on the device of the mean.
        mean: [C, 1, 1].
        std: [C, 1, 1].
        size_divisibility: see `padded_size`.
        least: see `padded_size`.
        dtype: of the result.
        channels_last: whether the result stores the channels of a pixel together, where that costs
            nothing.

    Returns:
        [B, C, H, W].
    """
    height, width = padded_size(images, size_divisibility, least)
    fits = len(mean) * height * width < MOST_VALUES
    if gpu_kernels.runs("normalise", mean) and fits and _known(images, mean):
        # Not every machine has Triton.
        from ..ops.normalise_triton import normalise_triton

        order = torch.channels_last if channels_last else torch.contiguous_format
        shape = len(images), len(mean), height, width
        batch = torch.empty(shape, dtype=dtype, device=mean.device, memory_format=order)
        factors = mean.flatten(), std.flatten()
        for image, target in zip(images, batch):
            normalise_triton(image, *factors, target)
        return batch
    # Padding with the mean becomes 0 when the mean is subtracted; no further copy is needed.
    batch = mean.expand(len(images), len(mean), height, width).clone(
        memory_format=torch.contiguous_format
    )
    for index, image in enumerate(images):
        batch[index, :, : image.shape[-2], : image.shape[-1]].copy_(image)
    return batch.sub_(mean).div_(std).to(dtype)


def _known(images: Sequence[Tensor], mean: Tensor) -> bool:
    """Return whether the kernel takes images: all have as many channels as the mean, on its GPU."""
    if torch.jit.is_tracing() or torch.compiler.is_compiling():
        return False
    dtypes = (torch.uint8, torch.float16, torch.bfloat16, torch.float32)
    same = all(len(image) == len(mean) and image.device == mean.device for image in images)
    plain = not torch.is_grad_enabled() or not any(image.requires_grad for image in images)
    return same and plain and all(image.dtype in dtypes for image in images)


def instances_to_device(instances: Sequence[Instances], device: torch.device) -> list[Instances]:
    """Move the ground truth of a batch with all its fields to a device, in one transfer.

    Args:
        instances: the ground truth of each image.
        device: the device to move to.

    Returns:
        The same as `Instances.to` for each image.
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
    """Return the tensor that a field of `Instances` consists of, or None if it is more than one."""
    if isinstance(field, Tensor):
        return field
    return field.tensor if type(field) in (Boxes, BitMasks) else None


def to_host(tensors: Sequence[Tensor]) -> list[list[float]]:
    """Return the values of several tensors of one device, flattened, as float64, with one wait."""
    values = HostCopy(torch.cat([tensor.flatten().double() for tensor in tensors])).wait().tolist()
    sizes = [tensor.numel() for tensor in tensors]
    starts = [sum(sizes[:index]) for index in range(len(sizes))]
    return [values[start : start + size] for start, size in zip(starts, sizes)]
