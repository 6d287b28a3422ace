"""Nothing of the package needs what only POSIX systems have, or a network, until it is used."""

import subprocess
import sys

import pytest

from .conftest import ROOT

# Other packages may: they are asked for what is there.
IMPORT_ALL = """
import builtins, importlib, os, pkgutil, signal, sys
import detectron2.data, detectron2.engine, filelock, torch  # noqa

def offline(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto", "urllib.Request"):
        raise RuntimeError(f"{event}: {arguments}")

sys.addaudithook(offline)

imported = builtins.__import__

def refuse(name, globals=None, *rest, **options):
    ours = (globals or {}).get("__name__", "").startswith("solo_family")
    if ours and name.partition(".")[0] in ("fcntl", "resource", "pwd", "grp", "termios", "pty"):
        raise ImportError(f"{globals['__name__']} imports {name}")
    return imported(name, globals, *rest, **options)

builtins.__import__ = refuse
for name in ("SIGUSR1", "SIGUSR2", "SIGKILL", "SIGHUP", "SIGALRM", "pthread_kill", "setitimer"):
    delattr(signal, name)
for name in ("fork", "register_at_fork", "getuid", "setsid", "killpg"):
    delattr(os, name)
import solo_family
count = 0
for module in pkgutil.walk_packages(solo_family.__path__, "solo_family."):
    if module.name != "solo_family.__main__":
        importlib.import_module(module.name)
        count += 1
print(count)
"""


@pytest.mark.slow
def test_every_module_is_imported_without_posix_and_without_a_network() -> None:
    process = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert process.returncode == 0, process.stderr
    assert int(process.stdout.splitlines()[-1]) > 150
