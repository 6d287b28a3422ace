"""What another process on the machine costs: python -m benchmarks.busy.

A training step of the quick start and inference with SOLOv2 (ResNet-50, one image of 480x640) run
in processes of their own, with torch's own settings and with those that this package chooses
(`solo_family/threads.py`). They take turns, alone on the machine and beside a process that keeps
one core busy. Prints the table of docs/performance.md: ratios of medians. Run it on an idle
machine.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import product
from pathlib import Path
from typing import Any

from tabulate import tabulate

from solo_family import threads

WHATS = ("training", "inference")
# In turn: iterations of a training, whose worker must go on loading, and images.
_RUNS = {"training": 8, "inference": 1}
_WARM_UP = 2  # turns
_SIZE = (480, 640)
# Between turns: a loader's worker fills its queue, and threads stop spinning.
_PAUSE = 0.2

Times = dict[tuple[str, bool], list[float]]


def main() -> None:
    """Measure, or do the turns of one process."""
    args = _arguments()
    if args.turns:
        threads.choose_before_torch()
        take_turns(args.turns, args.scale)
        return
    cores = threads.usable_cores()
    print(f"{cores.number} cores ({cores.reason}); {args.minutes:g} minutes", flush=True)
    seconds = 60 * args.minutes / len(args.what)
    rows = []
    for what in args.what:
        times = measure(what, settings(args.spins), seconds, args.scale)
        rows += rows_of(what, times)
        for (name, is_busy), values in times.items():
            text = " ".join(f"{value:.3f}" for value in values)
            print(f"{what}, {name}, {'busy' if is_busy else 'idle'}: {text}", flush=True)
    print(tabulate(rows, HEADS, tablefmt="pipe", floatfmt=".2f"))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--what", nargs="+", choices=WHATS, default=list(WHATS))
    parser.add_argument("--minutes", type=float, default=5.0, help="of all (default: 5)")
    parser.add_argument("--spins", nargs="*", type=int, default=[], help="more GOMP_SPINCOUNTs")
    parser.add_argument("--scale", type=float, default=1.0, help="of the image, to try it quickly")
    parser.add_argument("--turns", choices=WHATS, help=argparse.SUPPRESS)
    return parser.parse_args()


def settings(spins: list[int]) -> dict[str, dict[str, str]]:
    """Return the variables of each setting, by its name."""
    number = {threads.NUMBER: str(threads.usable_cores().number)}
    # The defaults of libgomp and oneDNN.
    own = {**number, threads.SPIN: "300000", threads.CACHE: "1024"}
    return {
        "torch's own": own,
        "chosen": {},
        **{f"spin {count}": {**number, threads.SPIN: str(count)} for count in spins},
    }


def measure(what: str, variables: dict[str, dict[str, str]], seconds: float, scale: float) -> Times:
    """Let a process per setting take turns, and return their seconds, idle and busy.

    Args:
        what: one of `WHATS`.
        variables: of each setting.
        seconds: for all; each setting gets at least one turn of each kind.
        scale: of the image.
    """
    end = time.monotonic() + seconds
    times: Times = {key: [] for key in product(variables, (False, True))}
    with ExitStack() as stack:
        turns = {
            name: stack.enter_context(process(what, values, scale))
            for name, values in variables.items()
        }
        for turn in turns.values():
            for _ in range(_WARM_UP):
                turn()
        while True:
            for is_busy in (False, True):
                with busy_process() if is_busy else ExitStack():
                    for name, turn in turns.items():
                        times[name, is_busy] += turn()
                        time.sleep(_PAUSE)
            if time.monotonic() > end:
                return times


@contextmanager
def process(
    what: str, variables: dict[str, str], scale: float
) -> Iterator[Callable[[], list[float]]]:
    """Start a process, and give a function that lets it take its turn and returns its seconds."""
    command = [sys.executable, "-m", "benchmarks.busy", "--turns", what, "--scale", str(scale)]
    others = {name: value for name, value in os.environ.items() if name not in threads.VARIABLES}
    child = subprocess.Popen(
        command,
        env={**others, **variables},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    sender, receiver = child.stdin, child.stdout

    def turn() -> list[float]:
        sender.write("\n")
        sender.flush()
        line = receiver.readline()
        if not line:
            raise SystemExit(f"The process of {what} has ended: see above.")
        return json.loads(line)

    try:
        yield turn
    finally:
        sender.close()
        child.wait()


@contextmanager
def busy_process() -> Iterator[None]:
    """Keep one core busy in the `with` block."""
    child = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        time.sleep(_PAUSE)
        yield
    finally:
        child.kill()
        child.wait()


def take_turns(what: str, scale: float) -> None:
    """Run once per line of the standard input, and print the seconds of each run as JSON."""
    with tempfile.TemporaryDirectory() as folder, os.fdopen(os.dup(1), "w") as output:
        os.dup2(2, 1)  # other code prints, too
        runs = {"training": training, "inference": inference}[what](Path(folder), scale)
        for _ in sys.stdin:
            print(json.dumps([next(runs) for _ in range(_RUNS[what])]), file=output, flush=True)


def training(folder: Path, _: float) -> Iterator[float]:
    """Yield the seconds of iterations of the quick start's training."""
    from solo_family.cli.quickstart import dataset_opts
    from solo_family.data.formats.synthetic import make_shapes
    from solo_family.model_zoo import get_config_file
    from solo_family.recipe.timing import seconds_of_iterations

    shapes = make_shapes(folder / "shapes", num_train=64, num_val=1)
    config = Path(get_config_file("quickstart/solov2.yaml"))
    return seconds_of_iterations(config, dataset_opts("instance", shapes))


def inference(_: Path, scale: float) -> Iterator[float]:
    """Yield the seconds that masks of an image of noise take, about 30 of them."""
    import torch
    from detectron2.modeling import build_model

    from solo_family.config import setup_cfg
    from solo_family.model_zoo import get_config_file

    from .fixed_weights import fill

    opts = ["MODEL.WEIGHTS", "", "MODEL.DEVICE", "cpu"]
    model = build_model(setup_cfg(get_config_file("SOLOv2/solov2_R50_3x.yaml"), opts)).eval()
    fill(model, {"category_branch.logits": -3.0})
    height, width = (32 * max(2, round(side * scale / 32)) for side in _SIZE)
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=generator)
    item = {"image": image, "height": height, "width": width}
    with torch.no_grad():
        while True:
            start = time.perf_counter()
            model([dict(item)])
            yield time.perf_counter() - start


HEADS = ("what", "threads", "idle / torch's own idle", "busy / idle", "busy / torch's own idle")


def rows_of(what: str, times: Times) -> list[list[Any]]:
    """Return the rows of the table: ratios of medians."""
    medians = {key: statistics.median(values) for key, values in times.items()}
    own = medians["torch's own", False]
    rows = []
    for name in dict.fromkeys(name for name, _ in times):
        idle, busy = medians[name, False], medians[name, True]
        rows.append([what, name, idle / own, busy / idle, busy / own])
    return rows


if __name__ == "__main__":
    main()
