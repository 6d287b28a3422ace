"""Which of the kernels written for GPUs an operator runs."""

from __future__ import annotations

import importlib.util
import warnings
from functools import cache

from torch import Tensor

# Kernels by the operator that runs them: written in Triton.
TRITON = ("pack", "decode", "resize", "nms")


def runs(kernel: str, tensor: Tensor) -> bool:
    """Whether an operator on this tensor runs its kernel: on a GPU, where Triton is.

    Args:
        kernel: one of `TRITON`.
        tensor: on the device in question.
    """
    return kernel in TRITON and tensor.is_cuda and _has_triton()


@cache
def _has_triton() -> bool:
    if importlib.util.find_spec("triton") is not None:
        return True
    warnings.warn(
        "Triton is not installed: masks are post-processed with torch's own kernels, which gives "
        "the same results more slowly. Install it with `pip install triton`.",
        stacklevel=2,
    )
    return False
