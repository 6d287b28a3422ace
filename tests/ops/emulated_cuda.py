"""Kernels written in CUDA C, run on the CPU by `cuda_emulator.cpp`."""

import ctypes
import subprocess
from collections.abc import Sequence
from pathlib import Path

EMULATOR = Path(__file__).with_name("cuda_emulator.cpp")


def compile_emulated(source: Path, library: Path, compiler: str) -> ctypes.CDLL:
    """A CUDA source as a library of C++."""
    subprocess.run(
        [
            *(compiler, "-std=c++17", "-O1", "-shared", "-fPIC", "-Wno-unknown-pragmas"),
            *(f'-DCUDA_SOURCE="{source}"', "-x", "c++", EMULATOR, "-o", library),
        ],
        check=True,
    )
    return ctypes.CDLL(str(library))


class EmulatedModule:
    """Stands in for `solo_family.ops.nvrtc.Module`.

    Args:
        library: see `compile_emulated`.
        seed: of the order in which blocks and threads run.
    """

    def __init__(self, library: ctypes.CDLL, seed: int = 0) -> None:
        self._library, self._seed = library, seed
        self.launched: list[str] = []

    def launch(
        self, kernels: Sequence[tuple[str, tuple[int, int], int]], argument: ctypes.Structure
    ) -> None:
        emulate = self._library.emulate
        emulate.restype = ctypes.c_bool
        for name, grid, threads in kernels:
            self.launched.append(name)
            kernel = getattr(self._library, name)
            ended = emulate(kernel, *grid, threads, ctypes.byref(argument), self._seed)
            assert ended, "deadlock"
