"""compute-sanitizer of every kernel: accesses out of bounds, races."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

from . import rows, settings

_TOOL = "/usr/local/cuda/bin/compute-sanitizer"
_FOUND = 9


def run() -> None:
    if not settings.on_gpu():
        return rows.needs_a_gpu()
    tool = shutil.which("compute-sanitizer") or _TOOL
    if not os.access(tool, os.X_OK):
        return rows.add("compute-sanitizer", note="it isn't installed here: nothing was run")
    for check in ("memcheck", "racecheck"):
        # Asking a driver for functions that only a newer one has is no error.
        quiet = ["--report-api-errors", "no"] if check == "memcheck" else []
        words = [tool, "--tool", check, *quiet, "--error-exitcode", str(_FOUND)]
        command = [*words, sys.executable, "-m", "tests.gpu.stages.small_inputs"]
        found = subprocess.run(command, capture_output=True, text=True)
        print(found.stdout[-5000:], found.stderr[-5000:], flush=True)
        lines = found.stdout.strip().splitlines() or found.stderr.strip().splitlines()
        note = f"exit status {found.returncode}; {lines[-1] if lines else ''}"
        rows.add(check, found.returncode == 0, note=note)
