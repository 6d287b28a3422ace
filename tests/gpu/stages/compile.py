"""torch.compile of what can be exported of every method."""

from __future__ import annotations

import time

import torch

from . import rows, settings, tiny, wrappers


def run() -> None:
    tiny.exact()
    for method in settings.METHODS:
        model = tiny.model(method).to(settings.device())
        name = f"{method} through torch.compile"
        with torch.no_grad(), rows.case(name):
            torch._dynamo.reset()
            mode = "reduce-overhead" if settings.on_gpu() else "default"
            compiled = torch.compile(model.export_forward, mode=mode, dynamic=False)
            start = time.perf_counter()
            # The second run records a graph, the third replays it.
            for _ in range(3):
                compiled(wrappers.random_images())
            seconds = time.perf_counter() - start
            other = wrappers.random_images(1)
            found = {key: value.clone() for key, value in compiled(other).items()}
            note = f"{seconds:.1f} s to compile"
            wrappers.add(name, model.export_forward(other), found, note)
