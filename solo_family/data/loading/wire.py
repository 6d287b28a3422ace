"""Serialisation of batches: a pickle of their structure, and the contents of their tensors.

Tensors are read without a copy, so that a batch can lie in memory that two processes share. Unlike
torch's own sharing of tensors it uses no files in /dev/shm.
"""

import io
import pickle
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

# Tensors begin at multiples of this many bytes, as in torch's own memory.
_ALIGNMENT = 64


class Packed(NamedTuple):
    """A serialised object.

    Attributes:
        structure: a pickle of the object, without the contents of its tensors and arrays.
        buffers: these contents.
    """

    structure: bytes
    buffers: Sequence[memoryview]


def pack(value: Any) -> Packed:
    """Serialise an object; its contiguous CPU tensors are not copied.

    Raises:
        Exception: the error that pickle raises for an object that can't be pickled.
    """
    file = io.BytesIO()
    buffers: list[pickle.PickleBuffer] = []
    _Pickler(file, protocol=5, buffer_callback=buffers.append).dump(value)
    return Packed(file.getvalue(), [buffer.raw() for buffer in buffers])


def unpack(structure: bytes | bytearray, buffers: Sequence[Any] = ()) -> Any:
    """Return the object that `pack` has serialised.

    Args:
        structure: from a process of the same run, because a pickle can run any code.
        buffers: writable; the object's tensors are views of them.
    """
    return pickle.loads(structure, buffers=buffers)


def places(sizes: Sequence[int]) -> tuple[list[int], int]:
    """Lay buffers out one after the other, each beginning at a multiple of 64 bytes.

    Args:
        sizes: of the buffers, in bytes.

    Returns:
        The offset at which each buffer begins, and the end of the last, in bytes.
    """
    starts, end = [], 0
    for size in sizes:
        starts.append(end)
        end += -(-size // _ALIGNMENT) * _ALIGNMENT
    return starts, end


class _Pickler(pickle.Pickler):
    def reducer_override(self, value: Any) -> Any:
        if type(value) is not Tensor or not _is_plain(value):
            return NotImplemented
        flat = value.detach().contiguous().reshape(-1).view(torch.uint8)
        buffer = pickle.PickleBuffer(cast(Any, flat.numpy()))
        result: tuple[Callable[..., Any], Any] = (_tensor, (buffer, value.dtype, value.shape))
        return result


def _is_plain(tensor: Tensor) -> bool:
    return (
        tensor.device.type == "cpu"
        and tensor.layout == torch.strided
        and not tensor.requires_grad
        and not tensor.is_quantized
        and not tensor.is_conj()
        and not tensor.is_neg()
    )


def _tensor(buffer: Any, dtype: torch.dtype, shape: torch.Size) -> Tensor:
    if not memoryview(buffer).nbytes:
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(buffer, dtype=dtype).reshape(shape)
