"""Child processes that end together with their parent, however the parent ends."""

import ctypes
import os
import signal
import sys
import threading
import time

_SET_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of linux/prctl.h
_SECONDS = 1.0


def end_with_parent(parent: int) -> None:
    """Let the system kill this process when its parent ends.

    Args:
        parent: the parent's process id, as the parent has passed it. If the parent has ended
            already, this process exits now.
    """
    if sys.platform == "linux":
        try:
            ctypes.CDLL(None).prctl(_SET_DEATH_SIGNAL, int(signal.SIGKILL))
        except (OSError, AttributeError):  # another C library, or a sandbox that forbids it
            _watch(parent)
    else:
        _watch(parent)
    if os.getppid() != parent:
        os._exit(1)


def _watch(parent: int) -> None:
    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
