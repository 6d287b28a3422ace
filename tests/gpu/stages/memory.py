"""Peak memory of inference on a crowded picture."""

from __future__ import annotations

import torch

from solo_family.cli.benchmark.candidates import candidates_table
from solo_family.cli.benchmark.timing import peak_bytes

from . import published, rows, settings

_CANDIDATES = 4000


def run() -> None:
    count = 50 if settings.is_tiny() else _CANDIDATES
    model, image = published.model("SOLOv2"), published.image((800, 1333))
    with rows.case("peak"):
        # The network and the selection, one after the other.
        peak = peak_bytes(
            lambda: candidates_table(model, image, [count], repeats=1),
            torch.device(settings.device()),
        )
        name = f"SOLOv2 R50 of a picture {tuple(image.shape[1:])} with {count} candidates"
        megabytes = None if peak is None else peak / 2**20
        rows.add(name, value=megabytes, unit="MiB beyond the model")
