"""Convolve small maps with 1 x 1 kernels: by packed weights, and as a matrix product.

    python -m benchmarks.small_maps

Prints GFLOP/s of one thread in float32, the best of several runs. `modeling/packed_conv.py` takes
the product up to 2,048 pixels. The second table has microseconds of group norms of maps with
channels last, by torch's kernel and on contiguous copies (`modeling/fast_group_norm.py`).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial

import torch
from tabulate import tabulate
from torch import Tensor, nn

from solo_family.modeling import packed_conv, packed_weights
from solo_family.modeling.fast_group_norm import FastGroupNorm, make_group_norms_fast
from solo_family.modeling.packed_conv import PackedConv2d

CHANNELS = ((2048, 512), (512, 2048), (1024, 2048), (256, 512), (1152, 192))
SIZES = ((8, 8), (16, 22), (25, 34), (32, 43), (50, 68))
NORM_SIZES = (12, 16, 24, 32, 64)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()
    torch.set_num_threads(1)
    heads = [f"{height} x {width}" for height, width in SIZES]
    with torch.inference_mode():
        print(tabulate(pointwise(args.repeats), ["channels", *heads], tablefmt="github"))
        print()
        sides = [f"{side} x {side}" for side in NORM_SIZES]
        print(tabulate(norms(args.repeats), ["64 channels", *sides], tablefmt="github"))


def pointwise(repeats: int) -> list[list[str]]:
    """Return the rows "packed, product" in GFLOP/s."""
    packed_weights._IN_A_ROW = 10**9  # never packed anew for the maps that come
    rows = []
    for inputs, outputs in CHANNELS:
        conv = PackedConv2d.take(nn.Conv2d(inputs, outputs, 1))
        row = [f"{inputs:,} to {outputs:,}"]
        for size in SIZES:
            x = last(1, inputs, *size)
            flop = 2 * inputs * outputs * size[0] * size[1]
            speeds = []
            for most in (0, 10**9):
                packed_conv._FEW_PIXELS = most
                speeds.append(f"{flop / best(partial(conv, x), repeats) / 1e9:.0f}")
            row.append(", ".join(speeds))
        rows.append(row)
    return rows


def norms(repeats: int) -> list[list[str]]:
    """Return the rows "torch's, ours" in microseconds."""
    rows = []
    for dtype in (torch.float32, torch.bfloat16):
        plain, fast = (nn.GroupNorm(32, 64).to(dtype) for _ in range(2))
        make_group_norms_fast(nn.Sequential(fast))
        assert isinstance(fast, FastGroupNorm)
        row = [str(dtype).removeprefix("torch.")]
        for side in NORM_SIZES:
            x = last(1, 64, side, side).to(dtype)
            times = [1e6 * best(partial(norm, x), repeats) for norm in (plain, fast)]
            row.append(", ".join(f"{value:.0f}" for value in times))
        rows.append(row)
    return rows


def last(*size: int) -> Tensor:
    """Return a random map with channels last."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(*size, generator=generator).to(memory_format=torch.channels_last)


def best(run: Callable[[], object], repeats: int) -> float:
    """Return the seconds of the fastest of some runs, after one that is not timed."""
    run()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


if __name__ == "__main__":
    main()
