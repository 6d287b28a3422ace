"""Calls a check with many examples of hypothesis', in a process that a limit of time can end."""

import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ..forked import Forked

FEW, MANY = 10, int(os.environ.get("FUZZ_EXAMPLES", "500"))
# `make test` tries few examples, `make test-all` many, or as many as FUZZ_EXAMPLES says.
counts = pytest.mark.parametrize("examples", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])
_SECONDS = 60  # for one example, on a busy machine
# Beyond what the process has at first: an error comes before the machine ends processes.
_BYTES = 4 * 2**30


def fuzz(
    check: Callable[[Any], Any], example: st.SearchStrategy[Any], examples: int, folder: Path
) -> None:
    """Fails where an example raises, ends the process, or takes too long or much, also within C.

    Args:
        check: called with each example.
        example: what is drawn.
        examples: how many.
        folder: for what the process prints, and the example it was at.
    """

    def main(_: list[str]) -> int:
        def limited(value: Any) -> None:
            with open(folder / "example.txt", "w", encoding="utf-8", errors="replace") as file:
                file.write(repr(value)[:20_000])
            # Its default action ends the process, wherever it is.
            signal.alarm(_SECONDS)
            check(value)
            signal.alarm(0)

        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        limit = pages * resource.getpagesize() + _BYTES
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))
        run = settings(
            max_examples=examples,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        )
        run(given(example)(limited))()
        print(f"{examples} examples", file=sys.stderr)
        return 0

    with Forked(main, [], folder) as process:
        status = process.status(limit=24 * 3600)
        printed = process.printed
    assert status == 0, f"status {status} at {(folder / 'example.txt').read_text()}\n{printed}"
