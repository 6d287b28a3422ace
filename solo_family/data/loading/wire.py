"""Batches as bytes: what pickle says of their structure, and the contents of their tensors apart.

Tensors are written as they are and read without a copy, so that a batch can lie in memory that two
processes share; nothing of it is a file of /dev/shm, as it is where torch shares tensors.
"""

import io
import pickle
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

# Where a tensor may begin, in bytes: as torch's own memory.
_ALIGNMENT = 64


class Packed(NamedTuple):
    """An object as bytes.

    Attributes:
        structure: a pickle, without the contents of tensors and arrays.
        buffers: those contents.
    """

    structure: bytes
    buffers: Sequence[memoryview]


def pack(value: Any) -> Packed:
    """Return an object as bytes; its tensors on the CPU are not copied, unless they are strided.

    Raises:
        Exception: pickle's, on what can't be pickled.
    """
    file = io.BytesIO()
    buffers: list[pickle.PickleBuffer] = []
    _Pickler(file, protocol=5, buffer_callback=buffers.append).dump(value)
    return Packed(file.getvalue(), [buffer.raw() for buffer in buffers])


def unpack(structure: bytes | bytearray, buffers: Sequence[Any] = ()) -> Any:
    """Return the object. Its tensors are views of `buffers`, which must be writable.

    A pickle can run any code: this one must come from a process of the same run.
    """
    return pickle.loads(structure, buffers=buffers)


def places(sizes: Sequence[int]) -> tuple[list[int], int]:
    """Return where buffers of these sizes begin when they lie one after the other, and their end.

    Each begins at a multiple of 64 bytes.
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
