"""Compile CUDA C when it is first used, and launch it on torch's streams.

`cuda.bindings`, which torch's Linux wheels install, has the compiler (nvrtc) and the driver: no
CUDA toolkit is needed.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch

# No multiplication is fused with an addition, so that results are rounded as torch's operators
# round them.
_OPTIONS = (b"--fmad=false",)


class Module:
    """The kernels of one source file on one GPU, loaded and ready, also for capture in a graph.

    Args:
        source: CUDA C, see `compile_cuda`; each kernel is `extern "C"` and takes one struct.
        kernels: the names of those to load.
        device: index of the GPU.

    Raises:
        RuntimeError: it doesn't compile, with the compiler's log; or the driver refuses it.
    """

    def __init__(self, source: Path, kernels: Sequence[str], device: int) -> None:
        from cuda.bindings import driver

        self._launch = driver.cuLaunchKernel
        self._current_context, self._set_context = driver.cuCtxGetCurrent, driver.cuCtxSetCurrent
        major, minor = torch.cuda.get_device_capability(device)
        cubin = compile_cuda(source, f"sm_{major}{minor}")
        self._device = device
        with torch.cuda.device(device):
            # This tensor makes torch create its context, which is the primary one.
            torch.empty(1, device=f"cuda:{device}")
            handle = _checked(driver.cuDeviceGet(device))
            self._context = _checked(driver.cuDevicePrimaryCtxRetain(handle))
            self._enter_context()
            self._module = _checked(driver.cuModuleLoadData(cubin))
            self._kernels = {name: self._load(driver, name) for name in kernels}

    def launch(
        self, kernels: Sequence[tuple[str, tuple[int, int], int]], argument: ctypes.Structure
    ) -> None:
        """Launch kernels, one after another, on torch's current stream of the device.

        Args:
            kernels: for each launch the name of a loaded kernel, the grid's blocks along x and y,
                and the threads of a block, along x.
            argument: the only parameter of each, copied before this returns.

        Raises:
            RuntimeError: the driver refuses.
        """
        parameters = (ctypes.c_void_p * 1)(ctypes.addressof(argument))
        self._enter_context()
        stream = torch.cuda.current_stream(self._device).cuda_stream
        for name, grid, threads in kernels:
            kernel, address = self._kernels[name], ctypes.addressof(parameters)
            (error,) = self._launch(kernel, *grid, 1, threads, 1, 1, 0, stream, address, 0)
            if error:
                raise RuntimeError(f"the kernel {name} was not launched: {error!r}")

    def _enter_context(self) -> None:
        # A thread that has not called CUDA yet has no context.
        current = _checked(self._current_context())
        if int(current) != int(self._context):
            _checked(self._set_context(self._context))

    def _load(self, driver: Any, name: str) -> Any:
        kernel = _checked(driver.cuModuleGetFunction(self._module, name.encode()))
        # The driver loads a kernel when it is first needed, which must not happen during a capture.
        _checked(driver.cuFuncGetAttribute(_binary_version(driver), kernel))
        if hasattr(driver, "cuFuncLoad"):
            _checked(driver.cuFuncLoad(kernel))
        return kernel


@cache
def load_module(source: Path, kernels: tuple[str, ...], device: int) -> Module:
    """Return the one `Module` of these arguments."""
    return Module(source, kernels, device)


@cache
def compile_cuda(source: Path, architecture: str) -> bytes:
    """Compile CUDA C to machine code, which needs no GPU.

    Args:
        source: a file that includes nothing but files beside it.
        architecture: the GPU architecture of the machine code, such as "sm_90".

    Raises:
        RuntimeError: with the compiler's log.
    """
    from cuda.bindings import nvrtc

    program = _checked(
        nvrtc.nvrtcCreateProgram(source.read_bytes(), source.name.encode(), 0, [], [])
    )
    where = [f"--gpu-architecture={architecture}", f"--include-path={source.parent}"]
    options = [*(option.encode() for option in where), *_OPTIONS]
    (error,) = nvrtc.nvrtcCompileProgram(program, len(options), options)
    if error:
        log = b" " * _checked(nvrtc.nvrtcGetProgramLogSize(program))
        nvrtc.nvrtcGetProgramLog(program, log)
        raise RuntimeError(
            f"{source.name} does not compile for {architecture}: {error!r}\n"
            + log.rstrip(b"\0 \n").decode(errors="replace")
        )
    cubin = b" " * _checked(nvrtc.nvrtcGetCUBINSize(program))
    nvrtc.nvrtcGetCUBIN(program, cubin)
    nvrtc.nvrtcDestroyProgram(program)
    return cubin


def _binary_version(driver: Any) -> Any:
    return driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_BINARY_VERSION


def _checked(result: tuple[Any, ...]) -> Any:
    """Return the results of a function of `cuda.bindings` without its error code.

    Raises:
        RuntimeError: there was an error.
    """
    error, *values = result
    if error:
        raise RuntimeError(f"CUDA reports {error!r}")
    return values[0] if values else None
