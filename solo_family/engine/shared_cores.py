"""Train on a CPU with as many threads as other programs leave cores free.

The threads of an operator share its work equally, and wait for the last one. Where another program
has a core, the thread that has to share it with that program takes twice as long, and the others
wait for it: one thread less is faster, for both.
"""

import logging
import multiprocessing
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch
from detectron2.config import CfgNode
from detectron2.engine import HookBase
from detectron2.utils import comm

from .. import threads

# Seconds between two looks. The system counts CPU time in steps of 0.01 s.
PERIOD = 1.0
# So many cores more, or fewer, than a number of threads change it: one half, and something against
# changing back and forth.
_MARGIN = 0.6
# So many looks in a row must find more free cores: a program that waits for a moment comes back.
_PATIENCE = 3

_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


class SharedCores(HookBase):
    """Before a step, set the number of torch's threads by what other programs compute.

    The results of a step depend on the number of threads in their last digits. A number that the
    user has chosen (`OMP_NUM_THREADS`) stays, and any with `SOLVER.SHARE_CORES False`.

    Args:
        cores: the number of threads of an idle machine.
        busy: returns the CPU seconds so far of all programs, on the CPUs of this process.
        own: returns those of this process and its children.
        clock: returns seconds.
    """

    def __init__(
        self,
        cores: int,
        busy: Callable[[], float],
        own: Callable[[], float],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cores = cores
        self._busy = busy
        self._own = own
        self._clock = clock
        self._last = clock(), busy(), own()
        self._free_looks = 0

    def before_step(self) -> None:
        """Look at the other programs, at most once in `PERIOD`."""
        self.look()

    def look(self) -> None:
        """Set the number of threads, unless the last look was less than `PERIOD` ago."""
        if self._clock() - self._last[0] < PERIOD:
            return
        before, self._last = self._last, (self._clock(), self._busy(), self._own())
        seconds, busy, own = (new - old for new, old in zip(self._last, before))
        others = max(0.0, busy - own) / seconds
        number, free = torch.get_num_threads(), self._cores - others
        self._free_looks = self._free_looks + 1 if free > number + _MARGIN else 0
        if free < number - _MARGIN or self._free_looks >= _PATIENCE:
            self._set(number, min(self._cores, max(1, round(free))), others)

    def _set(self, before: int, number: int, others: float) -> None:
        if number == before:
            return
        torch.set_num_threads(number)
        self._free_looks = 0
        logging.getLogger(__name__).info(
            f"Training goes on with {number} of {self._cores} threads, since other programs use "
            f"{others:.1f} cores (SOLVER.SHARE_CORES)."
        )


def shared_cores(cfg: CfgNode) -> list[SharedCores]:
    """Return the hook that adapts this process's threads, or none where they stay as they are.

    Threads are adapted if `SOLVER.SHARE_CORES` is on, on a CPU of several cores, in a training of
    one process, if nobody has chosen their number and no quota limits this process beside other
    programs.
    """
    if not cfg.SOLVER.SHARE_CORES or cfg.MODEL.DEVICE != "cpu":
        return []
    if comm.get_world_size() > 1 or not threads.number_is_chosen():
        return []
    cores, quota = torch.get_num_threads(), threads.cgroup_cpus()
    if cores < 2 or (quota is not None and quota < len(threads.affinity())):
        return []
    try:
        busy_seconds()
    except (OSError, ValueError):
        return []
    return [SharedCores(cores, busy_seconds, own_seconds)]


def busy_seconds(root: Path = Path("/")) -> float:
    """Return the CPU seconds so far of all programs, on the CPUs that this process may use.

    Args:
        root: the folder that holds `proc`.

    Raises:
        OSError, ValueError: the system does not count them.
    """
    cpus = {f"cpu{cpu}" for cpu in threads.affinity()}
    ticks = 0
    for line in (root / "proc/stat").read_text(encoding="ascii").splitlines():
        name, *fields = line.split()
        if name in cpus:
            user, nice, system, _, _, irq, softirq = map(int, fields[:7])
            ticks += user + nice + system + irq + softirq
    return ticks / _TICKS


def own_seconds() -> float:
    """Return the CPU seconds so far of this process, of its loader's workers, and of ended ones."""
    of_self = os.times()
    seconds = sum(of_self[:4])
    for child in multiprocessing.active_children():
        with suppress(OSError, ValueError, IndexError):
            text = Path(f"/proc/{child.pid}/stat").read_text(encoding="utf-8", errors="replace")
            # The second field is the program's name in parentheses, with any characters.
            user, system = text.rpartition(")")[2].split()[11:13]
            seconds += (int(user) + int(system)) / _TICKS
    return seconds
