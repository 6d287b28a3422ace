"""Keep the memory that a step frees for the next one, instead of giving it back to the system.

glibc maps blocks of more than 32 MiB (of less, at first) one by one, and unmaps them when they are
freed. What has just been mapped consists of no pages yet: at the first touch of each 4 KiB the
kernel interrupts the program, finds a page and fills it with zeros. A training step frees all of
its maps, and the next one takes as many: tens of thousands of such interruptions, in each step.

Nothing here imports torch or numpy.
"""

import ctypes
import os
import sys
from collections.abc import Mapping
from contextlib import suppress

# From glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
# Larger blocks are still mapped one by one, and given back; so is what is free at the end of the
# heap beyond this: a few pictures of thousands of objects may need far more memory than the others.
KEPT = 2**30
# Each of them says how glibc keeps memory, or puts another allocator in its place.
_TUNABLES = "GLIBC_TUNABLES"
VARIABLES = (
    "MALLOC_MMAP_THRESHOLD_",
    "MALLOC_TRIM_THRESHOLD_",
    "MALLOC_MMAP_MAX_",
    "LD_PRELOAD",
    _TUNABLES,
)
_state = "given back to the system, as the C library does"


def keep_freed_memory(environment: Mapping[str, str] = os.environ) -> bool:
    """Let this process keep what it frees, unless the user has set a variable about it.

    Only glibc on Linux can be told so; elsewhere nothing happens.

    Args:
        environment: the variables that the user may have set.

    Returns:
        Whether it does so now.
    """
    global _state
    setting = _set_by_user(environment)
    if setting:
        _state = f"kept or given back as {setting} says"
        return False
    if not sys.platform.startswith("linux"):
        return False
    with suppress(AttributeError, OSError):  # another C library
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018  musl's mallopt, if it has one, is another
        kept = library.mallopt(_MMAP_THRESHOLD, KEPT) and library.mallopt(_TRIM_THRESHOLD, KEPT)
        if kept:
            _state = "kept for the next step (glibc's mallopt), up to 1 GiB at the end of the heap"
        return bool(kept)
    return False


def give_back() -> None:
    """Give all free memory back to the system, once, so that what stays resident is in use."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def description() -> str:
    """Return what becomes of freed memory."""
    return _state


def _set_by_user(environment: Mapping[str, str]) -> str:
    """Return the name and the value of the variable that decides, or ""."""
    for name in VARIABLES:
        value = environment.get(name, "")
        if "glibc.malloc" in value if name == _TUNABLES else value:
            return f"{name}={value}"
    return ""
