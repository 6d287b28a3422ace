"""Which kernels an operator runs."""

from __future__ import annotations

import importlib.util
import warnings
from functools import cache

from torch import Tensor


def runs_triton(tensor: Tensor) -> bool:
    """Whether operators on this tensor run the Triton kernels: on a GPU, where Triton is."""
    return tensor.is_cuda and _has_triton()


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
