"""What the runner tells a stage, and what the stages have in common."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

# Names of environment variables.
DEVICE, TINY, SEED = "GPU_CHECK_DEVICE", "GPU_CHECK_TINY", "GPU_CHECK_SEED"
KERNELS = "SOLO_FAMILY_KERNELS"

METHODS = ("SOLOv2", "SOLO", "DecoupledSOLO", "SparseInst", "MaskFormer", "InstanceFCN")


def device() -> str:
    """Where the stage runs, "cuda" or "cpu"."""
    return os.environ.get(DEVICE, "cuda")


def on_gpu() -> bool:
    return device() == "cuda"


def is_tiny() -> bool:
    """Whether inputs are only large enough to try the script itself."""
    return os.environ.get(TINY) == "1"


def seed() -> int:
    """Of the run's random inputs; the table's first row has it."""
    return int(os.environ.get(SEED, "0"))


@contextmanager
def kernels(choice: str) -> Iterator[None]:
    """Have `SOLO_FAMILY_KERNELS` be one of auto, torch, triton for a while."""
    before = os.environ.get(KERNELS)
    os.environ[KERNELS] = choice
    try:
        yield
    finally:
        if before is None:
            del os.environ[KERNELS]
        else:
            os.environ[KERNELS] = before


def kernel_choice() -> str:
    """Which `SOLO_FAMILY_KERNELS` runs kernels here: on a CPU Triton's interpreter does."""
    return "auto" if on_gpu() else "triton"
