"""Tell whether a GPU has no memory left, whichever library says so."""

import re

import torch

# PyTorch's allocator and CUDA; cuBLAS, and cuDNN until version 8; cuDNN from 9 on.
_WORDS = re.compile(r"out of memory|ALLOC_FAILED|ALLOCATION_FAILED")


def lacks_memory(error: BaseException) -> bool:
    """Return whether an error says that a GPU has no memory left."""
    return isinstance(error, torch.cuda.OutOfMemoryError) or bool(_WORDS.search(str(error)))
