"""Speed beside others as ratios, compared with those kept: python -m benchmarks.ratios.

Needs no download and no code of others beside the package's own dependencies. Each pair takes turns
in one process and one thread, and its ratio, other's / ours, is the median of the turns' ratios of
CPU seconds: waiting for a busy machine does not count. A ratio that fell by more than 15 % is
measured again, for longer, before it is named; the exit status is then 1. Ratios are kept for each
CPU, because they differ.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from solo_family.files import replacing

EXPECTED = Path(__file__).with_name("expected.json")
_ALLOWED = 0.85  # of the ratio that is kept
_SECONDS = 15.0  # for a pair; three times as many again, where it fell
_LEAST = 5  # turns

Run = Callable[[], float]


class Pair(NamedTuple):
    """Two ways to the same result.

    Attributes:
        other, ours: each runs once, and returns its CPU seconds.
    """

    other: Run
    ours: Run


def main(words: list[str] | None = None) -> int:
    """Measure, compare and print; return the exit status."""
    args = _arguments(words)
    # With numpy's and torch's threads other work would be measured, too.
    os.environ["OMP_NUM_THREADS"] = "1"
    from .pairs import PAIRS, use_one_thread

    use_one_thread()
    names = args.only or list(PAIRS)
    unknown = [name for name in names if name not in PAIRS]
    if unknown:
        raise SystemExit(f"There is no {unknown[0]!r}; there are: {'; '.join(PAIRS)}.")
    all_kept, machine = _read(args.expected), this_machine()
    own = all_kept.get(machine, {})
    kept = _lowest(all_kept) | own
    found: dict[str, float] = {}
    fallen = []
    for name in names:
        with tempfile.TemporaryDirectory() as folder, quiet():
            pair = PAIRS[name](Path(folder))
            found[name] = ratio(pair, args.seconds)
            before = kept.get(name)
            if before and not args.update and found[name] < _ALLOWED * before:
                found[name] = ratio(pair, 3 * args.seconds)
        print(line(name, found[name], before), flush=True)
        if before and found[name] < _ALLOWED * before:
            fallen.append(name)
        if args.update:
            own = own | {name: round(found[name], 3)}
            all_kept[machine] = own
            with replacing(args.expected) as temporary:
                temporary.write_text(json.dumps(all_kept, indent=2) + "\n", encoding="utf-8")
    if args.update:
        return 0
    missing = [name for name in names if name in kept and name not in own]
    if missing:
        others = "; ".join(name for name in all_kept if name != machine)
        print(
            f"Of this CPU ({machine}) these are not kept: {', '.join(missing)}. They were "
            f"compared with the lowest of {others}."
        )
    if fallen:
        print(f"More than 15 % slower than before: {', '.join(fallen)}.")
    return int(bool(fallen))


def _arguments(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", help="some of the pairs")
    parser.add_argument("--seconds", type=float, default=_SECONDS, help="for each pair")
    parser.add_argument("--update", action="store_true", help="keep what is measured")
    parser.add_argument("--expected", type=Path, default=EXPECTED, help="the file of kept ratios")
    return parser.parse_args(words)


def _read(path: Path) -> dict[str, dict[str, float]]:
    """Return the kept ratios by name, for each CPU."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _lowest(all_kept: dict[str, dict[str, float]]) -> dict[str, float]:
    names = [name for ratios in all_kept.values() for name in ratios]
    return {
        name: min(ratios[name] for ratios in all_kept.values() if name in ratios) for name in names
    }


def ratio(pair: Pair, seconds: float) -> float:
    """Return how many times longer the other takes: the median of turns.

    Args:
        pair: both have run once before, to warm up.
        seconds: by the clock, after which no turn begins.
    """
    pair.other()
    pair.ours()
    end = time.monotonic() + seconds
    ratios: list[float] = []
    while len(ratios) < _LEAST or time.monotonic() < end:
        # By turns in either order: each follows the other as often.
        if len(ratios) % 2:
            ours, other = pair.ours(), pair.other()
        else:
            other, ours = pair.other(), pair.ours()
        ratios.append(other / ours)
    return statistics.median(ratios)


def line(name: str, found: float, before: float | None) -> str:
    """Return a line of the report."""
    if before is None:
        return f"{name:42}{found:8.2f}   (none is kept)"
    return f"{name:42}{found:8.2f}   kept: {before:.2f} ({100 * (found / before - 1):+.0f} %)"


def this_machine() -> str:
    """Return the model of the CPU."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        keys = ("model name", "cpu family", "model")
        pairs = (line.split(":", 1) for line in lines if ":" in line)
        facts = {key.strip(): value.strip() for key, value in pairs}
        return ", ".join(facts[key] for key in keys)
    except (OSError, KeyError):
        return platform.processor() or platform.machine()


@contextmanager
def quiet() -> Iterator[None]:
    """Send what pycocotools and progress bars print to nowhere."""
    sys.stdout.flush()
    sys.stderr.flush()
    before = os.dup(1), os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, copy in zip((1, 2), before):
            os.dup2(copy, number)
            os.close(copy)
        os.close(nowhere)


def cpu_seconds(run: Callable[[], object]) -> Run:
    """Return a function that runs once, and returns its CPU seconds in all threads."""

    def timed() -> float:
        start = time.process_time()
        run()
        return time.process_time() - start

    return timed


if __name__ == "__main__":
    sys.exit(main())
