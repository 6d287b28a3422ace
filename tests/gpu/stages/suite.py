"""The tests of the whole project: `pytest -m "not slow"`, on a machine that has a GPU."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import time

from . import rows

_WORKERS = 8


def run() -> None:
    words = ["-m", "not slow"]
    if importlib.util.find_spec("xdist"):
        words += ["-n", str(_WORKERS)]
    run_pytest(*words)


def run_pytest(*words: str) -> None:
    """Run pytest with our plugin; add its last line and its seconds."""
    options = ("-q", "-p", "no:cacheprovider", "-p", "tests.gpu.stages.pytest_rows")
    start = time.perf_counter()
    # Its lines go to the log as they come; the last is kept for the row.
    last = ""
    with subprocess.Popen(
        [sys.executable, "-m", "pytest", *options, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            last = line.strip() or last
    seconds = time.perf_counter() - start
    rows.add("pytest's last line", process.returncode == 0, seconds, "s", last)
