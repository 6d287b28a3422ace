"""The tests of the whole project: `pytest -m "not slow"`, on a machine that has a GPU.

A process that has used a GPU can't be forked to compute gradients. So tests that fork themselves
see no GPU; they run beside the others.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from . import rows

_TESTS = Path(__file__).resolve().parents[2]
# Helpers of tests that fork, by what their users import.
_FORKS = re.compile(r"\b(forked|fuzzing|walking)\b|\bos\.fork\b|get_context\(")
_WORKERS = {"with a GPU": 10, "without a GPU": 5}


def run() -> None:
    forking = sorted(str(file) for file in forking_tests())
    without = [f"--ignore={file}" for file in forking]
    parts = (("with a GPU", without), ("without a GPU", forking))
    runs = [threading.Thread(target=_run_part, args=part) for part in parts]
    for thread in runs:
        thread.start()
    for thread in runs:
        thread.join()


def forking_tests() -> list[Path]:
    """Return the files of tests that fork the process they run in.

    Those of kernels start other processes, and need the GPU.
    """
    files = (file for file in _TESTS.rglob("test_*.py") if file.parent.name not in ("ops", "gpu"))
    return [file for file in files if _FORKS.search(file.read_text())]


def _run_part(name: str, words: Sequence[str]) -> None:
    parallel = ["-n", str(_WORKERS[name])] if importlib.util.find_spec("xdist") else []
    environment = dict(os.environ)
    if name == "without a GPU":
        environment["CUDA_VISIBLE_DEVICES"] = ""
    run_pytest("-m", "not slow", *parallel, *words, name=name, environment=environment)


def run_pytest(*words: str, name: str = "", environment: dict[str, str] | None = None) -> None:
    """Run pytest with our plugin; add its last line and its seconds.

    Args:
        words: of its command line.
        name: of the run, where there are several.
        environment: of its process; None for this one's.
    """
    options = ("-q", "-p", "no:cacheprovider", "-p", "tests.gpu.stages.pytest_rows")
    start = time.perf_counter()
    # Its lines go to the log as they come; the last is kept for the row.
    last = ""
    with subprocess.Popen(
        [sys.executable, "-m", "pytest", *options, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            last = line.strip() or last
    seconds = time.perf_counter() - start
    row = " ".join(filter(None, ("pytest's last line", name)))
    rows.add(row, process.returncode == 0, seconds, "s", last)
