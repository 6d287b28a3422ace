"""Time iterations of a training on a CPU in several precisions, with torch's gradients and ours.

    python -m benchmarks.cpu_training --config-file configs/benchmarks/pennfudan_solov2.yaml

Each way trains a model of its own, in the same process; iterations take turns. "Norms apart" are
those that a step computes after a convolution instead of in it; "no tiles" leaves convolutions with
3 x 3 kernels to torch. Prints the medians and, since images of new sizes take longer, the means of
CPU seconds, how many times as fast a way is as the first, and the process's peak memory.
"""

from __future__ import annotations

import argparse
import statistics
import time
from contextlib import nullcontext
from pathlib import Path
from resource import RUSAGE_SELF, getrusage

import torch
from tabulate import tabulate
from torch import Tensor, nn

from solo_family.engine import step
from solo_family.modeling import base
from solo_family.ops import winograd
from solo_family.recipe.timing import FIRST, seconds_of_iterations

_LAST = ["SOLVER.CHANNELS_LAST", "True"]
_HALF = ["SOLVER.AMP.ENABLED", "True", "SOLVER.AMP.PRECISION", "bfloat16"]
_APART, _UNTILED = ", norms apart", ", no tiles"
# What the keys are, and whether gradients are ours.
_WAYS: dict[str, tuple[list[str], bool]] = {
    "float32, torch's gradients": ([], False),
    "float32": ([], True),
    "float32, channels last, torch's gradients": (_LAST, False),
    f"float32, channels last{_APART}": (_LAST, True),
    f"float32, channels last{_UNTILED}": (_LAST, True),
    "float32, channels last": (_LAST, True),
    "bfloat16, torch's gradients": (_HALF, False),
    "bfloat16, channels last, torch's gradients": (_LAST + _HALF, False),
    f"bfloat16, channels last{_APART}": (_LAST + _HALF, True),
    "bfloat16, channels last": (_LAST + _HALF, True),
}


def main() -> None:
    """Time all ways, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--config-file", type=Path, required=True)
    parser.add_argument("--iterations", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--ways", nargs="*", choices=list(_WAYS), default=list(_WAYS))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    ways = {name: _WAYS[name] for name in args.ways}
    ours, folding, suits = step.CpuGradients, base.fold_for_training, winograd.suits
    runs = {
        name: seconds_of_iterations(args.config_file, [*keys, "DATALOADER.NUM_WORKERS", "0"])
        for name, (keys, _) in ways.items()
    }
    wall: dict[str, list[float]] = {name: [] for name in runs}
    cpu: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(FIRST + args.iterations):
        for name, run in runs.items():
            step.CpuGradients = ours if _WAYS[name][1] else nullcontext  # type: ignore[misc, assignment]
            # The model is built in the first iteration.
            base.fold_for_training = _leave if name.endswith(_APART) else folding
            winograd.suits = _never if name.endswith(_UNTILED) else suits
            start = time.process_time()
            wall[name].append(next(run))
            cpu[name].append(time.process_time() - start)
    rows = []
    for name in runs:
        seconds, processor = (statistics.median(times[name][FIRST:]) for times in (wall, cpu))
        mean = statistics.fmean(cpu[name][FIRST:])
        rows.append([name, f"{seconds:.2f}", f"{processor:.2f}", f"{mean:.2f}"])
    for row in rows:
        row += [f"{float(rows[0][column]) / float(row[column]):.2f}" for column in (1, 2, 3)]
    heads = ("way", "s", "CPU s", "mean CPU s", "times as fast", "in CPU s", "in mean CPU s")
    print(tabulate(rows, heads, tablefmt="github"))
    print(f"peak memory: {getrusage(RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


def _leave(backbone: nn.Module, channels: int, size_divisibility: int) -> None:
    """Leave norms as they are."""


def _never(weight: Tensor, geometry: winograd.Geometry) -> bool:
    """Let no convolution be computed in tiles."""
    return False


if __name__ == "__main__":
    main()
