"""What training tests need: processes that see no GPU."""

from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="module")
def processes_without_gpus() -> Iterator[None]:
    """Tiny models train on the CPU; two processes on a machine of one GPU would not start.

    This process has looked for GPUs already, and keeps those that it found.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        yield
