"""What libraries say where a GPU has no memory left, and what they say of something else."""

import pytest
import torch

from solo_family.ops.gpu_memory import lacks_memory

# As PyTorch, CUDA, Triton, cuBLAS and cuDNN 8 and 9 say it.
NO_GPU_MEMORY = [
    "CUDA out of memory. Tried to allocate 2.00 GiB.",
    "CUDA error: out of memory",
    "Triton Error [CUDA]: out of memory",
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
]


@pytest.mark.parametrize("message", NO_GPU_MEMORY)
def test_no_memory(message: str) -> None:
    assert lacks_memory(RuntimeError(message))
    assert lacks_memory(torch.cuda.OutOfMemoryError())


@pytest.mark.parametrize(
    "message",
    [
        "out of resource: shared memory, Required: 122880, Hardware limit: 101376",
        "cuDNN error: CUDNN_STATUS_NOT_SUPPORTED",
        "CUDA error: an illegal memory access was encountered",
    ],
)
def test_something_else(message: str) -> None:
    assert not lacks_memory(RuntimeError(message))
