"""Mounts that only one process sees; for tests that are run as root on Linux."""

import ctypes
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

_NEW_MOUNTS = 0x20000  # CLONE_NEWNS
_PRIVATE = (1 << 14) | (1 << 18)  # MS_REC, MS_PRIVATE
_READ_ONLY = 1


def mounting(target: str, options: str, *, read_only: bool = False) -> Callable[[], None]:
    """Returns what gives the process that calls it a tmpfs of its own at `target`.

    The test is skipped where that is not allowed.
    """
    mount = partial(_mount, target, options, read_only)
    pid = os.fork()
    if pid == 0:
        try:
            mount()
        except BaseException:
            os._exit(1)
        os._exit(0)
    if os.waitpid(pid, 0)[1]:
        pytest.skip("this user may not mount, or not in a namespace")
    return mount


def _mount(target: str, options: str, read_only: bool) -> None:
    libc = ctypes.CDLL(None, use_errno=True)

    def check(status: int) -> None:
        if status:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), target)

    check(libc.unshare(_NEW_MOUNTS))
    check(libc.mount(None, b"/", None, _PRIVATE, None))
    assert Path(target).is_dir()
    flags = _READ_ONLY if read_only else 0
    check(libc.mount(b"tmpfs", target.encode(), b"tmpfs", flags, options.encode()))
