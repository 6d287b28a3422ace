"""Writes a model's `export_forward` as a file: ONNX, TorchScript, or torch.export's format."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ..modeling.meta_arch import MaskSegmentor

OPSET = 18
# The first ONNX Runtime that has it.
ONNX_RUNTIME = "1.14"


class ExportGraph(nn.Module):
    """`export_forward` as a module with tensors in and tensors out.

    Args:
        model: in evaluation mode.
    """

    def __init__(self, model: MaskSegmentor) -> None:
        super().__init__()
        self.model = model

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        """Returns the values of `export_forward`, in order; takes its arguments likewise."""
        named = dict(zip(self.model.export_inputs, given))
        return tuple(self.model.export_forward(**named).values())


@dataclass(frozen=True)
class GraphInput:
    """What a graph is made with.

    Attributes:
        tensors: the arguments of `export_forward` that the method uses, by name.
        dynamic: the graph takes images of other sizes, too.
    """

    tensors: dict[str, Tensor]
    dynamic: bool


def write_onnx(graph: ExportGraph, given: GraphInput, names: list[str], path: Path) -> None:
    """Writes an ONNX file of opset `OPSET`.

    By tracing: torch's other exporter takes minutes for one of these models, and refuses heights
    and widths that all but follow from its rules.

    Args:
        graph: of the model.
        given: its input.
        names: of the outputs.
        path: of the file.
    """
    axes = {"images": {2: "height", 3: "width"}} | {
        name: {2: "mask_height", 3: "mask_width"} for name in names if name.startswith("mask")
    }
    with _quiet():
        torch.onnx.export(
            graph,
            tuple(given.tensors.values()),
            str(path),
            input_names=list(given.tensors),
            output_names=names,
            dynamic_axes=axes if given.dynamic else None,
            opset_version=OPSET,
            dynamo=False,
        )


def write_torchscript(graph: ExportGraph, given: GraphInput, names: list[str], path: Path) -> None:
    """Writes a TorchScript file, by tracing; it needs torch and torchvision to run."""
    with _quiet():
        traced = torch.jit.trace(graph, tuple(given.tensors.values()), check_trace=False)
        torch.jit.save(traced, str(path))


def write_torch_export(graph: ExportGraph, given: GraphInput, names: list[str], path: Path) -> None:
    """Writes a program of `torch.export`."""
    automatic = {2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO} if given.dynamic else None
    sizes = tuple(automatic if name == "images" else None for name in given.tensors)
    with _quiet():
        program = torch.export.export(
            graph, tuple(given.tensors.values()), dynamic_shapes=(sizes,), strict=False
        )
        torch.export.save(program, path)


Write = Callable[[ExportGraph, GraphInput, list[str], Path], None]
# The name of the file, and what writes it.
FORMATS: dict[str, tuple[str, Write]] = {
    "onnx": ("model.onnx", write_onnx),
    "torch_export": ("model.pt2", write_torch_export),
    "torchscript": ("model.pt", write_torchscript),
}


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences the tracer's warnings of sizes: that the result follows them is checked after."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        yield
