"""Time the gradients of a group norm with channels last: torch's, on contiguous copies, and ours.

    python -m benchmarks.norm_gradients --threads 1

Prints milliseconds of all three gradients, the least of the repeats.
"""

from __future__ import annotations

import torch
from tabulate import tabulate
from torch import Tensor

from solo_family.ops.group_norm import group_norm

from .small_maps import best
from .weight_gradients import repeats_given

# Images, channels, rows and columns of a map. 32 groups.
_CASES = ((4, 128, 80, 120), (4, 64, 80, 120), (4, 64, 40, 60), (8, 256, 80, 80), (4, 256, 40, 40))
_GROUPS = 32


def main() -> None:
    """Time all cases, and print the table."""
    repeats = repeats_given(__doc__)
    rows = [[" x ".join(map(str, case)), *_milliseconds(case, repeats)] for case in _CASES]
    print(f"{torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}")
    heads = ("maps", "torch, channels last", "torch, contiguous copies", "ours")
    print(tabulate(rows, heads, tablefmt="github", floatfmt=".1f"))


def _milliseconds(case: tuple[int, ...], repeats: int) -> list[float]:
    torch.manual_seed(0)
    last = torch.channels_last
    x = torch.randn(case).contiguous(memory_format=last).requires_grad_()
    weight, bias = (torch.rand(case[1], requires_grad=True) for _ in range(2))
    upstream = torch.randn(case).contiguous(memory_format=last)

    def on_copies(x: Tensor) -> Tensor:
        copy = x.contiguous(memory_format=torch.contiguous_format)
        normed = torch.group_norm(copy, _GROUPS, weight, bias)
        return normed.contiguous(memory_format=last)

    results = (
        torch.group_norm(x, _GROUPS, weight, bias),
        on_copies(x),
        group_norm(x, _GROUPS, weight, bias, 1e-5),
    )
    given = (x, weight, bias)

    def seconds(result: Tensor) -> float:
        return best(
            lambda: torch.autograd.grad(result, given, upstream, retain_graph=True), repeats
        )

    return [1000 * seconds(result) for result in results]


if __name__ == "__main__":
    main()
