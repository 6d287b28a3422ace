"""Describe the machine that a recipe is for."""

import os
from dataclasses import dataclass

import torch

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
    """

    cores: int
    memory: int
    gpu: str = ""
    gpu_memory: int = 0

    def __str__(self) -> str:
        cpu = f"{self.cores} CPU cores, {self.memory} GB"
        return f"{self.gpu}, {self.gpu_memory} GB; {cpu}" if self.gpu else cpu


def this_machine() -> Machine:
    """Return the description of this machine."""
    cores = usable_cores().number
    memory = _memory()
    if not torch.cuda.is_available():
        return Machine(cores, memory)
    device = torch.cuda.get_device_properties(0)
    return Machine(cores, memory, device.name, max(1, round(device.total_memory / 2**30)))


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
