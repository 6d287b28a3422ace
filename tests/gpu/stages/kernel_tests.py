"""The tests of kernels, which run compiled where there is a GPU; few may be skipped there."""

from __future__ import annotations

from pathlib import Path

from . import settings
from .suite import run_pytest

# Those of this check itself.
_OWN = ("test_check.py", "test_stages.py")
# Why a test may be skipped on a machine with a GPU.
MAY_SKIP = (
    "needs two GPUs",
    "this GPU has no tensor cores for single bits",
    "this GPU has no tensor cores for bfloat16",
)
TESTS = Path(__file__).resolve().parents[2]


def run() -> None:
    files = [str(file) for file in _files()]
    words = ["-m", "not slow", *files]
    if settings.is_tiny():
        words += ["-k", "packing"]
    if settings.on_gpu():
        words += ["--no-skips", *(f"--may-skip={reason}" for reason in MAY_SKIP)]
    run_pytest(*words)


def _files() -> list[Path]:
    """Those of the operators and of GPUs that speak of CUDA."""
    files = sorted([*TESTS.glob("ops/test_*.py"), *TESTS.glob("gpu/test_*.py")])
    return [file for file in files if file.name not in _OWN and "cuda" in file.read_text()]
