"""Which of the kernels written for GPUs an operator runs."""

from __future__ import annotations

import importlib.util
import os
import warnings
from functools import cache

import torch
from torch import Tensor

# Kernels by the operator that runs them: written in Triton.
TRITON = ("pack", "decode", "resize", "nms")
# Written in CUDA C: matrix NMS by single bits on tensor cores.
CUDA = ("bits",)


def runs(kernel: str, tensor: Tensor) -> bool:
    """Whether an operator on this tensor runs its kernel: on a GPU, where Triton is.

    Args:
        kernel: one of `TRITON` or `CUDA`.
        tensor: on the device in question.
    """
    if kernel in CUDA:
        return tensor.is_cuda and has_single_bits(tensor.get_device())
    return kernel in TRITON and tensor.is_cuda and _has_triton()


@cache
def has_single_bits(device: int) -> bool:
    """Whether a GPU multiplies single bits in hardware, and there is a compiler for it.

    Tensor cores do from sm_80 to sm_90; from sm_100 on the instruction is emulated, and slow.
    """
    if os.environ.get("SOLO_FAMILY_KERNELS") == "torch" or torch.version.cuda is None:
        return False
    if not (8, 0) <= torch.cuda.get_device_capability(device) <= (9, 0):
        return False
    try:
        from cuda.bindings import driver, nvrtc

        return int(nvrtc.nvrtcVersion()[0]) == 0 and int(driver.cuInit(0)[0]) == 0
    except (ImportError, RuntimeError):
        return False


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
