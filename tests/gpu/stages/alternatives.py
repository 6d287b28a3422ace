"""Matrix NMS in each way that the package has: what the choice between them is read from."""

from __future__ import annotations

import torch

from solo_family.tools.timing import cuda_graph

from . import rows, settings
from .operators import Input, matrix_nms_case
from .timing import milliseconds

# By `SOLO_FAMILY_KERNELS`.
_WAYS = {"auto": "as chosen", "triton": "Triton's kernels", "torch": "torch's kernels"}


def run() -> None:
    if not settings.on_gpu():
        return rows.needs_a_gpu()
    counts = (9,) if settings.is_tiny() else (500, 100, 2000, 16, 50, 200, 1000, 4000)
    for count in counts:
        for classes in (1, 80):
            for choice in _WAYS:
                with torch.no_grad():
                    _measure(Input("matrix-nms", count, (200, 336), "packed", classes), choice)


def _measure(one: Input, choice: str) -> None:
    name = f"{one}, {_WAYS[choice]}"
    with settings.kernels(choice), rows.case(name):
        ours = matrix_nms_case(one).ours
        eager = milliseconds(ours, repeats=15, seconds=0.1)
        # torch's way waits for the number of each class.
        if choice == "torch":
            return rows.add(name, value=eager, unit="ms eagerly")
        graph = milliseconds(cuda_graph(ours), repeats=15, seconds=0.1)
        rows.add(name, value=graph, unit="ms as a graph", note=f"eagerly {eager:.4f} ms")
