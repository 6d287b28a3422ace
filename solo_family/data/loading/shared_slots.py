"""Memory that a process and those it forks share: without a name, a file or a limit of /dev/shm."""

import mmap
import sys
import weakref
from collections import deque
from collections.abc import Sequence
from typing import Any, cast

import numpy as np

_NO_RESERVE = 0x4000 if sys.platform == "linux" else 0  # mmap.MAP_NORESERVE of Python 3.13
# A slot that has held more is given back to the system before it is used again.
_KEPT = 512 * 2**20


class SharedSlots:
    """Pieces of shared memory of one size, each for one batch at a time.

    The size is an upper bound: memory is taken where it is written to.

    Args:
        count: of the slots.
        size: in bytes.

    Raises:
        OSError, ValueError: the system does not give as much.
    """

    def __init__(self, count: int, size: int) -> None:
        self.size = size
        flags = mmap.MAP_SHARED | mmap.MAP_ANONYMOUS | _NO_RESERVE
        self._slots = [mmap.mmap(-1, size, flags=flags) for _ in range(count)]
        self._free = deque(range(count))
        self._used = [0] * count

    def take(self) -> int | None:
        """Return a slot that nothing lies in, for a batch; None where there is none."""
        if not self._free:
            return None
        slot = self._free.pop()  # the one used last: its pages are there
        if self._used[slot] > _KEPT and hasattr(mmap, "MADV_REMOVE"):
            self._slots[slot].madvise(mmap.MADV_REMOVE)
        self._used[slot] = 0
        return slot

    def give_back(self, slot: int) -> None:
        """Let another batch have the slot."""
        self._free.append(slot)

    def write(self, slot: int, buffers: Sequence[memoryview], starts: Sequence[int]) -> None:
        """Copy buffers into a slot, in the process that was given it."""
        with memoryview(self._slots[slot]) as memory:
            for buffer, start in zip(buffers, starts, strict=True):
                memory[start : start + buffer.nbytes] = buffer

    def read(self, slot: int, sizes: Sequence[int], starts: Sequence[int]) -> list[memoryview]:
        """Return views of a slot, which is given back when the last of them is gone."""
        end = starts[-1] + sizes[-1] if sizes else 0
        self._used[slot] = end
        if not end:
            self.give_back(slot)
            return []
        owner = np.frombuffer(self._slots[slot], np.uint8, end)
        weakref.finalize(owner, self._free.append, slot)
        memory = memoryview(cast(Any, owner))
        return [memory[start : start + size] for start, size in zip(starts, sizes, strict=True)]
