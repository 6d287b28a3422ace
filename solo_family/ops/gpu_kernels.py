"""Decide which GPU kernels an operator runs, and record why it doesn't run the others.

A kernel is tried on a small input before it is used on a device. A machine on which it can't be
compiled or launched, or returns other results than torch, does the same work with torch's kernels.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from .gpu_memory import lacks_memory

# Kernels by the operator that runs them: written in Triton, and in CUDA C.
TRITON = (
    *("pack", "decode", "resize", "nms", "windows", "paste"),  # of masks
    *("group_norm", "resize_maps", "normalise", "max_pool"),  # of images and maps of features
)
CUDA = ("bits",)

# Functions that run a kernel once on a device, and raise any exception if it can't be launched, or
# AssertionError if its result is wrong. `self_checks` fills this: checks need operators, which need
# this module.
CHECKS: dict[str, Callable[[torch.device], None]] = {}

VARIABLE = "SOLO_FAMILY_KERNELS"
CHOICES = ("auto", "torch", "triton")

# Why a kernel isn't used on a device; None where it is used.
_failures: dict[tuple[str, torch.device], str | None] = {}
_under_check: set[tuple[str, torch.device]] = set()
_lock = threading.RLock()


def runs(kernel: str, tensor: Tensor) -> bool:
    """Return whether an operator on this tensor runs its kernel.

    The environment variable `SOLO_FAMILY_KERNELS` decides. "auto", the default, runs the kernel on
    a GPU where it passes its check, which the first call for a device performs. "torch" never runs
    it. "triton" runs it wherever Triton's kernels can be launched, that is on a GPU, or anywhere in
    Triton's interpreter, without a check, so that failures are raised. Kernels compute in float32:
    tensors of float64 are left to torch.

    Args:
        kernel: one of `TRITON` or `CUDA`.
        tensor: a tensor on the device in question.

    Raises:
        ValueError: the variable has another value.
    """
    choice = chosen()
    # A tensor without values, as in torch.export, has nothing that a kernel could read.
    if choice == "torch" or tensor.dtype == torch.float64 or isinstance(tensor, FakeTensor):
        return False
    if choice == "triton":
        return kernel in TRITON and (_on_gpu(tensor) or _interpreted())
    if kernel not in (*TRITON, *CUDA) or not _on_gpu(tensor):
        return False
    return suits(kernel, tensor.device) and _passes(kernel, tensor.device)


def suits(kernel: str, device: torch.device) -> bool:
    """Return whether a kernel is meant for a GPU: those of `CUDA` multiply single bits.

    NVIDIA's GPUs do so in hardware from sm_80 to sm_90; from sm_100 on the instruction is emulated,
    and slow. `cuda.bindings`, which compiles the kernels, comes with torch's Linux wheels; without
    it Triton's kernels do the same work.
    """
    return kernel not in CUDA or _has_single_bits(device.index)


@cache
def _has_single_bits(index: int | None) -> bool:
    if torch.version.cuda is None:
        return False
    try:
        from cuda.bindings import driver, nvrtc  # noqa: F401
    except ImportError:
        return False
    return (8, 0) <= torch.cuda.get_device_capability(index) <= (9, 0)


def chosen() -> str:
    """Return the value of `SOLO_FAMILY_KERNELS`, "auto" if it isn't set.

    Raises:
        ValueError: it is none of `CHOICES`.
    """
    choice = os.environ.get(VARIABLE) or "auto"
    if choice not in CHOICES:
        raise ValueError(
            f"the environment variable {VARIABLE} is {choice!r}, but must be one of "
            f"{', '.join(CHOICES)}: unset it for auto, which is right for nearly everybody"
        )
    return choice


def failure(kernel: str, device: torch.device) -> str | None:
    """Return why a kernel is not used on a device, and what to do; None if it passes its check.

    The first call for a kernel and a device runs the check, and waits for the device; later calls
    look the answer up.

    Raises:
        torch.cuda.OutOfMemoryError: there is no memory for the check's few bytes, which says
            nothing about the kernel: the next call checks again.
    """
    key = kernel, device
    if key in _failures:
        return _failures[key]
    with _lock:
        if key not in _failures:
            _under_check.add(key)
            try:
                _failures[key] = _check(kernel, device)
            finally:
                _under_check.discard(key)
        return _failures[key]


def _passes(kernel: str, device: torch.device) -> bool:
    key = kernel, device
    if key in _failures:
        return _failures[key] is None
    with _lock:
        # A check that asks for its own kernel, through an operator, gets torch's.
        if key in _under_check:
            return False
        if key in _failures:
            return _failures[key] is None
        if _is_capturing(device):
            _warn(
                f"The {kernel} kernel is needed on {device} for the first time while a CUDA "
                "graph is captured, where it can't be compiled: torch's kernels go into the "
                "graph. Run once before the capture."
            )
            return False
        try:
            why = failure(kernel, device)
        except torch.cuda.OutOfMemoryError:
            return False
    if why is not None:
        _warn(f"The {kernel} kernel is not used on {device}, torch's own are, more slowly: {why}")
    return why is None


# torch.compile asks while it traces, and takes the answer as a constant. This is all that
# `torch.compiler.assume_constant_result` does, but that imports the compiler first, which takes
# most of a second.
_passes._dynamo_marked_constant = True  # type: ignore[attr-defined]


def _check(kernel: str, device: torch.device) -> str | None:
    try:
        _run_check(CHECKS[kernel], device)
    except Exception as error:  # a compiler, a driver or a kernel may raise anything
        if lacks_memory(error):
            raise torch.cuda.OutOfMemoryError(str(error)) from error
        return f"{_in_one_line(error)}. {_remedy(kernel, error)}"
    return None


def _run_check(check: Callable[[torch.device], None], device: torch.device) -> None:
    """Run a check whatever the caller has set: gradients, autocast, a ban on waiting."""
    with torch.no_grad(), torch.autocast(device.type, enabled=False), waits_allowed(device):
        check(device)


def may_wait(device: torch.device) -> bool:
    """Return whether results can be looked at: not while a CUDA graph or a program is recorded."""
    recorded = torch.jit.is_tracing() or torch.compiler.is_compiling()
    return not (recorded or _is_capturing(device))


@contextmanager
def waits_allowed(device: torch.device) -> Iterator[None]:
    """Let the host wait for a device inside, whatever `torch.cuda.set_sync_debug_mode` says."""
    if device.type != "cuda":
        yield
        return
    mode = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("default")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(mode)


def _in_one_line(error: Exception) -> str:
    """Return what went wrong in one line; a compiler's output can have thousands."""
    words = " ".join(str(error).split()) or "no message"
    short = words if len(words) <= 200 else words[:200] + " ..."
    return f"{type(error).__name__}: {short}".rstrip(".")


def _remedy(kernel: str, error: Exception) -> str:
    message = str(error)
    if isinstance(error, ModuleNotFoundError):
        what = f"Install it with `pip install {(error.name or 'triton').split('.')[0]}`"
    elif "C compiler" in message or "gcc" in message or "Python.h" in message:
        what = (
            "Install a C compiler and Python's headers (on Debian `apt install gcc python3-dev`), "
            "or name a compiler in the environment variable CC"
        )
    elif isinstance(error, AssertionError):
        what = "Please report it with the output of `python -m solo_family doctor`"
    elif kernel in CUDA:  # which that choice leaves out
        what = f"{VARIABLE}=triton selects Triton's kernels"
    else:
        what = f"{VARIABLE}=triton raises the whole error"
    return f"{what}; {VARIABLE}=torch selects torch's kernels without this warning."


def _warn(message: str) -> None:
    # The line of the operator's caller would be a different one of ours each time.
    warnings.warn(message, RuntimeWarning, stacklevel=4)


def _on_gpu(tensor: Tensor) -> bool:
    return tensor.is_cuda


def _is_capturing(device: torch.device) -> bool:
    if device.type != "cuda":
        return False
    with torch.cuda.device(device):
        return torch.cuda.is_current_stream_capturing()


def _interpreted() -> bool:
    """Return whether Triton's interpreter is on, which runs kernels on any device."""
    try:
        from triton import knobs
    except ImportError:  # no Triton, or a version without its knobs
        return os.environ.get("TRITON_INTERPRET") == "1"
    return bool(knobs.runtime.interpret)
