"""Anonymous memory that a process shares with the processes that it forks.

It has no file, so the size of /dev/shm does not limit it.
"""

import mmap
import sys
import weakref
from collections import deque
from collections.abc import Sequence
from typing import Any, cast

import numpy as np

NO_RESERVE = 0x4000 if sys.platform == "linux" else 0  # mmap.MAP_NORESERVE of Python 3.13
# The pages of a slot that has held more bytes are returned to the system before the next use.
_KEPT = 512 * 2**20


class SharedSlots:
    """Slots of shared memory, all of one size, each of which holds one batch at a time.

    The size is an upper bound: the system allocates memory only where it is written to.

    Args:
        count: number of slots.
        size: of each slot, in bytes.

    Raises:
        OSError, ValueError: the system can't provide as much memory.
    """

    def __init__(self, count: int, size: int) -> None:
        self.size = size
        flags = mmap.MAP_SHARED | mmap.MAP_ANONYMOUS | NO_RESERVE
        self._slots = [mmap.mmap(-1, size, flags=flags) for _ in range(count)]
        self._free = deque(range(count))
        self._used = [0] * count

    def take(self) -> int | None:
        """Return the number of a free slot, which is then in use; None if there is none."""
        if not self._free:
            return None
        slot = self._free.pop()  # the one used last, whose pages are already allocated
        if self._used[slot] > _KEPT and hasattr(mmap, "MADV_REMOVE"):
            self._slots[slot].madvise(mmap.MADV_REMOVE)
        self._used[slot] = 0
        return slot

    def give_back(self, slot: int) -> None:
        """Mark a slot as free."""
        self._free.append(slot)

    def write(self, slot: int, buffers: Sequence[memoryview], starts: Sequence[int]) -> None:
        """Copy buffers into a slot, each to its offset in bytes; called in the worker."""
        with memoryview(self._slots[slot]) as memory:
            for buffer, start in zip(buffers, starts, strict=True):
                memory[start : start + buffer.nbytes] = buffer

    def read(self, slot: int, sizes: Sequence[int], starts: Sequence[int]) -> list[memoryview]:
        """Return views of a slot's buffers; the slot becomes free when the last view is deleted."""
        end = starts[-1] + sizes[-1] if sizes else 0
        self._used[slot] = end
        if not end:
            self.give_back(slot)
            return []
        owner = np.frombuffer(self._slots[slot], np.uint8, end)
        weakref.finalize(owner, self._free.append, slot)
        memory = memoryview(cast(Any, owner))
        return [memory[start : start + size] for start, size in zip(starts, sizes, strict=True)]
