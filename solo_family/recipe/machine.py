"""Describe the machine that a recipe is for."""

import os
from dataclasses import dataclass

import torch

from ..modeling.precision import why_not_bfloat16
from ..threads import usable_cores

_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


@dataclass(frozen=True)
class Machine:
    """What training can use.

    Attributes:
        cores: the number of CPU cores that this process may use.
        memory: of the machine or, in a container, of it, in whole GB.
        gpu: the name of the first GPU; "" for none.
        gpu_memory: its memory in whole GB.
        bfloat16: whether the CPU multiplies in bfloat16 faster than in float32.
        avx2: whether the CPU has AVX2 but no AVX-512, and so takes about twice as long.
    """

    cores: int
    memory: int
    gpu: str = ""
    gpu_memory: int = 0
    bfloat16: bool = False
    avx2: bool = False

    def __str__(self) -> str:
        fast = " with bfloat16" if self.bfloat16 else " with AVX2 alone" if self.avx2 else ""
        cpu = f"{self.cores} CPU cores{fast}, {self.memory} GB"
        return f"{self.gpu}, {self.gpu_memory} GB; {cpu}" if self.gpu else cpu


def this_machine() -> Machine:
    """Return the description of this machine."""
    cores = usable_cores().number
    memory = _memory()
    bfloat16 = not why_not_bfloat16(torch.device("cpu"))
    avx2 = torch.backends.cpu.get_cpu_capability() == "AVX2"
    if not torch.cuda.is_available():
        return Machine(cores, memory, bfloat16=bfloat16, avx2=avx2)
    device = torch.cuda.get_device_properties(0)
    gpu_memory = max(1, round(device.total_memory / 2**30))
    return Machine(cores, memory, device.name, gpu_memory, bfloat16, avx2)


def _memory() -> int:
    """Return the memory in whole GB, at least 1; that of a container where it is less."""
    try:
        limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    except (AttributeError, OSError, ValueError):  # Windows
        limits = [8 * 2**30]
    for path in _LIMITS:
        try:
            with open(path, encoding="ascii") as file:
                limits.append(int(file.read()))
        except (OSError, ValueError):  # no such group, or no limit: "max"
            continue
    return max(1, round(min(limits) / 2**30))
