"""Time convolutions with 3 x 3 kernels: by torch, and in Winograd's tiles.

    python -m benchmarks.winograd --threads 1

Prints milliseconds of the result, of the gradient of the input and of that of the weights, the
least of the repeats; both take turns. Of torch's two orders in memory the faster one counts; the
gradient of the weights is also computed by products of matrices (`ops/dense_conv.py`). The weights
are transformed beforehand for the results, as in inference, and in each call for gradients.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import torch
from tabulate import tabulate
from torch import Tensor

from solo_family import heap
from solo_family.ops import dense_conv, winograd

from .weight_gradients import repeats_given

# Images, channels of the input, rows and columns of a map, output channels.
_CASES = (
    (1, 256, 100, 136, 256),
    (1, 256, 50, 68, 256),
    (1, 256, 25, 34, 256),
    (1, 512, 25, 34, 512),
    (4, 512, 40, 40, 512),
    (4, 512, 16, 16, 512),
    (4, 256, 40, 40, 256),
    (4, 128, 64, 88, 128),
    (4, 128, 24, 24, 128),
    (4, 64, 64, 88, 64),
)
_ONE = (1, 1)
Way = Callable[[], Tensor]


def main() -> None:
    """Time all cases, and print the table."""
    repeats = repeats_given(__doc__)
    heap.keep_freed_memory()
    rows = [[_in_words(case), *_row(case, repeats)] for case in _CASES]
    print(f"{torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}, CPU ms")
    heads = (
        *("maps, output channels", "result: torch, tiles", "of the input: torch, tiles"),
        "of the weights: torch, products, tiles",
    )
    print(tabulate(rows, heads, tablefmt="github"))


def _row(case: tuple[int, ...], repeats: int) -> list[str]:
    images, inputs, height, width, outputs = case
    x, weight = torch.randn(images, inputs, height, width), torch.randn(outputs, inputs, 3, 3)
    gradient = torch.randn(images, outputs, height, width)
    first = x, weight, gradient
    last = tuple(one.contiguous(memory_format=torch.channels_last) for one in first)
    transformed = winograd.transform_weight(weight)

    def backward(tensors: tuple[Tensor, ...], which: int) -> Tensor:
        x, weight, gradient = tensors
        mask = [which == 0, which == 1, False]
        found: tuple[Tensor, ...] = torch.ops.aten.convolution_backward(
            *(gradient, x, weight, None, _ONE, _ONE, _ONE, False, (0, 0), 1), mask
        )
        return found[which]

    x, weight, gradient = last
    results: list[Way] = [lambda: winograd.convolve(x, transformed, None, 1)]
    of_inputs: list[Way] = [lambda: winograd.gradient_of_input(gradient, weight, 1)]
    of_weights: list[Way] = [
        lambda: dense_conv.gradient_of_weight(gradient, x, weight, _ONE, _ONE, _ONE),
        lambda: winograd.gradient_of_weight(gradient, x, 1),
    ]
    for order in (first, last):
        results.append(partial(torch.conv2d, order[0], order[1], None, _ONE, _ONE))
        of_inputs.append(partial(backward, order, 0))
        of_weights.append(partial(backward, order, 1))
    with torch.no_grad():
        columns = [_least(ways, repeats) for ways in (results, of_inputs, of_weights)]
    return [
        ", ".join(f"{1000 * value:.0f}" for value in (min(column[-2:]), *column[:-2]))
        for column in columns
    ]


def _least(ways: list[Way], repeats: int) -> list[float]:
    """Return the least CPU seconds of each way; they take turns."""
    least = [float("inf")] * len(ways)
    for _ in range(repeats):
        for index, way in enumerate(ways):
            start = time.process_time()
            way()
            least[index] = min(least[index], time.process_time() - start)
    return least


def _in_words(case: tuple[int, ...]) -> str:
    images, inputs, height, width, outputs = case
    return f"{images} x {inputs} x {height} x {width}, {outputs}"


if __name__ == "__main__":
    main()
