"""Triton's kernels compiled for a GPU that isn't there, through the functions that launch them.

A driver that knows one architecture takes the place of Triton's own, which needs a GPU. Everything
up to the machine code happens as on that GPU, on CPU tensors; a launch itself does nothing. The
driver is one for the whole process, so that a test uses it in a process of its own.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime.driver import driver

_TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
# Bytes of shared memory that one program may have, by architecture.
_SHARED_MEMORY = {75: 65_536, 80: 166_912, 90: 232_448, 100: 232_448}


@dataclass(frozen=True)
class Compiled:
    """One variant of one kernel.

    Attributes:
        kernel: the name of its function.
        arch: what it is for, such as 90.
        cubin: its machine code.
        specialised: types, constants and divisibility of its arguments, in print.
    """

    kernel: str
    arch: int
    cubin: Path
    specialised: str

    def resources(self) -> dict[str, int]:
        """Registers of a thread, and its bytes of stack and of local memory, where spills go."""
        tool = _TOOLS / "cuobjdump"
        command = [str(tool), "-res-usage", str(self.cubin)]
        found = subprocess.run(command, capture_output=True, text=True, check=True)
        usage = re.search(r"REG:(\d+) STACK:(\d+) SHARED:\d+ LOCAL:(\d+)", found.stdout)
        assert usage is not None, found.stdout + found.stderr
        return dict(zip(("registers", "stack", "local"), map(int, usage.groups())))


@dataclass
class OfflineDriver:
    """What Triton asks its driver for.

    Attributes:
        arch: compute capability, such as 90.
        make_launcher: called when a kernel's launcher is made, as Triton makes one with the
            system's C compiler.
        compiled: every variant, in the order of compilation.
        launches: the names of kernels that would have been launched.
    """

    arch: int
    make_launcher: Callable[[], object] = lambda: None
    compiled: list[Compiled] = field(default_factory=list)
    launches: list[str] = field(default_factory=list)

    def install(self) -> OfflineDriver:
        driver.set_active(self)
        triton.knobs.compilation.listener = self._listen
        return self

    @property
    def utils(self) -> OfflineDriver:
        return self

    def get_device_properties(self, device: int) -> dict[str, int]:
        return {"max_shared_mem": _SHARED_MEMORY[self.arch], "multiprocessor_count": 132}

    def load_binary(self, *_: Any) -> tuple[int, int, int, int, int]:
        # A module, a function, registers, spills, threads of a block.
        return 1, 1, 0, 0, 1024

    def launcher_cls(self, src: Any, metadata: Any) -> Callable[..., None]:
        self.make_launcher()
        return lambda *_: self.launches.append(metadata.name)

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self.arch, 32)

    def get_current_device(self) -> int:
        # Kernels are kept by device: each architecture is one.
        return self.arch

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_active_torch_device(self) -> torch.device:
        return torch.device("cpu")

    def _listen(self, *, src: Any, metadata_group: dict[str, str], **_: Any) -> None:
        cubin = next(Path(file) for file in metadata_group.values() if file.endswith(".cubin"))
        names = src.fn.arg_names
        constants = {names[place[0]]: value for place, value in src.constants.items()}
        attributes = {names[place[0]]: value for place, value in src.attrs.items() if value}
        specialised = f"{src.signature} {constants} {attributes}"
        self.compiled.append(Compiled(src.fn.fn.__name__, self.arch, cubin, specialised))
