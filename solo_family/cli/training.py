"""Run train_net.py in a process of its own: it ends with this one, and gets its signals."""

import os
import subprocess
import sys
from collections.abc import Sequence

from ..stopping import Stopped

# The body of train_net.py, which an installed package does not have.
_PROGRAM = """
import sys
from solo_family.lifetime import end_with_parent
end_with_parent(int(sys.argv.pop(1)))
from solo_family.heap import keep_freed_memory
from solo_family.starting import load
from solo_family.threads import choose_before_torch
keep_freed_memory()
choose_before_torch()
sys.exit(load("solo_family.engine.main").main())
"""


def run_training(words: Sequence[str]) -> int:
    """Train, and return the exit status.

    The first signal is passed on, so that the training ends with a checkpoint.

    Args:
        words: the flags of train_net.py, and KEY VALUE pairs.
    """
    command = [sys.executable, "-c", _PROGRAM, str(os.getpid()), *words]
    # In a session of its own, since Ctrl-C in a terminal would reach it twice.
    process = subprocess.Popen(command, start_new_session=True)
    try:
        return process.wait()
    except Stopped as stopped:
        process.send_signal(stopped.number)
        return process.wait()
