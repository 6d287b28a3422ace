"""Time the gradient of a convolution's weights: torch's in both orders, and ours by products.

    python -m benchmarks.weight_gradients --threads 1

Prints milliseconds, the least of the repeats. Ours is used with channels last on processors
with AVX2 alone; here it is called on any.
"""

from __future__ import annotations

import argparse

import torch
from tabulate import tabulate
from torch import Tensor

from solo_family.ops import dense_conv

from .small_maps import best

# Images, channels, rows and columns of a map, output channels, side of the kernel, stride.
_CASES = (
    (4, 128, 64, 88, 128, 3, 1),
    (4, 128, 40, 40, 128, 3, 1),
    (4, 64, 64, 88, 64, 3, 1),
    (1, 256, 100, 136, 256, 3, 1),
    (1, 64, 200, 272, 64, 3, 1),
    (1, 128, 100, 136, 128, 3, 2),
    (1, 512, 25, 34, 512, 3, 1),
)


def main() -> None:
    """Time all cases, and print the table."""
    repeats = repeats_given(__doc__)
    rows = [[_in_words(case), *_milliseconds(case, repeats)] for case in _CASES]
    print(f"{torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}")
    heads = ("maps, weights", "torch", "torch, channels last", "products")
    print(tabulate(rows, heads, tablefmt="github", floatfmt=".0f"))


def repeats_given(text: str | None) -> int:
    """Read the flags of a benchmark that `text` describes; set the threads, return the repeats."""
    parser = argparse.ArgumentParser(description=(text or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    repeats: int = args.repeats
    return repeats


def _milliseconds(case: tuple[int, ...], repeats: int) -> list[float]:
    images, channels, height, width, outputs, side, stride = case
    x = torch.randn(images, channels, height, width)
    weight = torch.randn(outputs, channels, side, side)
    steps, edges = (stride, stride), (side // 2, side // 2)
    gradient = torch.randn_like(torch.conv2d(x, weight, None, steps, edges))
    last = [one.contiguous(memory_format=torch.channels_last) for one in (gradient, x, weight)]

    def by_torch(gradient: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        found: tuple[Tensor, ...] = torch.ops.aten.convolution_backward(
            *(gradient, x, weight, None, steps, edges, (1, 1), False, (0, 0), 1),
            [False, True, False],
        )
        return found[1]

    def by_products() -> Tensor:
        return dense_conv.gradient_of_weight(last[0], last[1], last[2], steps, edges, (1, 1))

    functions = (
        lambda: by_torch(gradient, x, weight),
        lambda: by_torch(last[0], last[1], last[2]),
        by_products,
    )
    return [1000 * best(function, repeats) for function in functions]


def _in_words(case: tuple[int, ...]) -> str:
    images, channels, height, width, outputs, side, stride = case
    words = f"{images} x {channels} x {height} x {width}, {outputs} x {channels} x {side} x {side}"
    return words if stride == 1 else f"{words}, stride {stride}"


if __name__ == "__main__":
    main()
