"""What a program does first: letters, limits, and the imports for which a machine may have no room.

Nothing here imports more than Python has.
"""

import codecs
import errno
import importlib
import os
import re
import signal
import sys
from contextlib import suppress
from types import ModuleType

# Where torch's libraries can't be mapped: an ImportError with the linker's words.
_NO_ADDRESSES = re.compile(r"failed to map segment|cannot allocate memory|cannot map zero-fill")
_NO_FILES = re.compile(r"Too many open files")
_ADDRESSES = 8 * 2**30  # bytes; torch with CUDA's libraries takes half of it


def use_utf8() -> None:
    """Restart this program in Python's UTF-8 mode if its locale supports ASCII letters only.

    Files of other names, which configs and datasets may have, could not be opened. A C locale does
    not come to that unless PYTHONUTF8 is 0. To be called before anything has begun.
    """
    ascii_only = codecs.lookup(sys.getfilesystemencoding()).name == "ascii"
    if ascii_only and not sys.flags.utf8_mode and sys.executable:
        with suppress(OSError):
            os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


def load(name: str) -> ModuleType:
    """Import a module that imports torch.

    Raises:
        SystemExit: with status 2, where the machine does not allow it, or 130 after Ctrl-C; after
            one line that says so.
    """
    warning = few_addresses()
    if warning:
        print(warning, file=sys.stderr)  # C++ ends a process without a word of Python's
    try:
        return importlib.import_module(name)
    except (ImportError, MemoryError, OSError) as error:
        # numpy's own ImportError says nothing of the linker's.
        reason = no_room(error.__cause__ or error) or (warning and no_room(MemoryError()))
        if not reason:
            raise
        print(f"error: {reason}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("Stopped by SIGINT: nothing was begun.", file=sys.stderr)
        raise SystemExit(128 + signal.SIGINT) from None


def few_addresses() -> str:
    """Return a warning where `ulimit -v` allows fewer addresses than libraries may take, or ""."""
    with suppress(ImportError):  # Windows has no such limits
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if 0 <= limit < _ADDRESSES:
            return (
                f"ulimit -v allows {limit // 2**20} MB of addresses. torch and its libraries take "
                "about 4,000, whatever they use of them: if this run ends, allow more, or none "
                "(ulimit -v unlimited)."
            )
    return ""


def no_room(error: BaseException) -> str:
    """Return the line of an import that the machine's limits end, or "" for another error."""
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    if isinstance(error, MemoryError) or _NO_ADDRESSES.search(text):
        return (
            f"There is not enough memory to load torch ({text}). Allow more (ulimit -v, or the "
            "limit of the job or the container)."
        )
    if getattr(error, "errno", None) in (errno.EMFILE, errno.ENFILE) or _NO_FILES.search(text):
        return f"There are not enough open files to load torch ({text}). Allow more with ulimit -n."
    return ""
