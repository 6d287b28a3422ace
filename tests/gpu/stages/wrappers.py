"""What can be exported of every method, replayed as a CUDA graph and through torch.export."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from solo_family.export.parity import output_error

from . import rows, settings, tiny
from .sampling import generator

# Rounding may move a pixel across the masks' threshold, which changes that mask's score.
BAR = 0.01


def run() -> None:
    tiny.exact()
    for method in settings.METHODS:
        model = tiny.model(method).to(settings.device())
        with torch.no_grad():
            if settings.on_gpu():
                with rows.case(f"{method} as a CUDA graph"):
                    _check_graph(method, model)
            with rows.case(f"{method} through torch.export"):
                _check_export(method, model)


def random_images(offset: int = 0) -> Tensor:
    """Return one picture, float32 [1, 3, 64, 96], 0 to 255."""
    device = settings.device()
    return torch.rand(1, 3, 64, 96, generator=generator(offset), device=device) * 255


def on_host(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the same tensors in the host's memory."""
    return {key: value.cpu() for key, value in tensors.items()}


def add(name: str, expected: dict[str, Tensor], found: dict[str, Tensor], note: str = "") -> None:
    """Add a row of the greatest difference between two outputs."""
    error = output_error(on_host(expected), on_host(found))
    rows.add(name, error < BAR, error, "largest difference", note)


class _Forward(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return self.model.export_forward(images)


def _check_graph(method: str, model: nn.Module) -> None:
    """Capture on one picture, replay on another."""
    static = random_images()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            model.export_forward(static)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = model.export_forward(static)
    other = random_images(1)
    static.copy_(other)
    graph.replay()
    add(f"{method} as a CUDA graph", model.export_forward(other), found)


def _check_export(method: str, model: nn.Module) -> None:
    program = torch.export.export(_Forward(model), (random_images(),))
    other = random_images(1)
    add(f"{method} through torch.export", model.export_forward(other), program.module()(other))
