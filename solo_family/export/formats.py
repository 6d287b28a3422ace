"""Write a model's `export_forward` as a file: ONNX, TorchScript, or torch.export's format."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from torch import Tensor, nn
from torch.export import Dim
from torch.fx.experimental import _config as symbolic_shapes

from ..modeling.base import MaskSegmentor

OPSET = 18
# The first version of ONNX Runtime that supports this opset.
ONNX_RUNTIME = "1.14"


class ExportGraph(nn.Module):
    """`export_forward` as a module that takes tensors and returns tensors.

    Args:
        model: the model, in evaluation mode.
    """

    def __init__(self, model: MaskSegmentor) -> None:
        super().__init__()
        self.model = model

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        """Return the values of `export_forward`, in order; take its arguments likewise."""
        named = dict(zip(self.model.export_inputs, given))
        return tuple(self.model.export_forward(**named).values())


@dataclass(frozen=True)
class GraphInput:
    """The input that a graph is traced with.

    Attributes:
        tensors: the arguments of `export_forward` that the method uses, by name.
        dynamic: whether the graph must accept images of other sizes.
        dynamic_batch: whether it must accept other numbers of images.
    """

    tensors: dict[str, Tensor]
    dynamic: bool
    dynamic_batch: bool = False

    def dynamic_axes(self, outputs: list[str]) -> dict[str, dict[int, str]]:
        """Return the names of the axes that vary, by input or output, and axis."""
        axes: dict[str, dict[int, str]] = {
            name: {} for name in (*self.tensors, *outputs) if name != "score_threshold"
        }
        for name, of_tensor in axes.items():
            if self.dynamic_batch:
                of_tensor[0] = "batch"
            if self.dynamic and name == "images":
                of_tensor |= {2: "height", 3: "width"}
            if self.dynamic and name.startswith("mask"):
                of_tensor |= {2: "mask_height", 3: "mask_width"}
        return axes


def write_onnx(graph: ExportGraph, given: GraphInput, names: list[str], path: Path) -> None:
    """Write an ONNX file of opset `OPSET`.

    The graph is traced: torch's other exporter takes minutes for one of these models, and refuses
    heights and widths, all but those that follow from its rules.

    Args:
        graph: the graph of the model.
        given: its input.
        names: the names of the outputs.
        path: the path of the file.
    """
    with quiet():
        torch.onnx.export(
            graph,
            tuple(given.tensors.values()),
            str(path),
            input_names=list(given.tensors),
            output_names=names,
            dynamic_axes=given.dynamic_axes(names),
            opset_version=OPSET,
            dynamo=False,
        )


def write_torchscript(graph: ExportGraph, given: GraphInput, names: list[str], path: Path) -> None:
    """Write a traced TorchScript file, which needs torch and torchvision to run."""
    with quiet():
        traced = torch.jit.trace(graph, tuple(given.tensors.values()), check_trace=False)
        torch.jit.save(traced, str(path))


def write_torch_export(graph: ExportGraph, given: GraphInput, names: list[str], path: Path) -> None:
    """Write a program of `torch.export`."""
    sides: dict[int, Any] | None = None
    if given.dynamic:
        graph, step = _for_even_and_odd_sides(graph), graph.model.size_divisibility
        sides = {2: Dim("rows", min=1) * step, 3: Dim("columns", min=1) * step}
    sizes = tuple(sides if name == "images" else None for name in given.tensors)
    with quiet(), sides_of_one_as_others():
        program = torch.export.export(
            graph, tuple(given.tensors.values()), dynamic_shapes=(sizes,), strict=False
        )
        torch.export.save(program, path)


@contextmanager
def sides_of_one_as_others() -> Iterator[None]:
    """Let `torch.export` treat sides of length 1 like any other length.

    The coarsest feature maps of the smallest images have such sides, which torch would otherwise
    specialise on. Older versions of torch do not have the option, and are left alone.
    """
    option = {"backed_size_oblivious": True}
    known = all(hasattr(symbolic_shapes, name) for name in option)
    with symbolic_shapes.patch(option) if known else nullcontext():  # type: ignore[attr-defined]
        yield


class _EverySecondPixel(LastLevelMaxPool):
    """Slicing that equals detectron2's max pooling of single pixels with stride 2."""

    def __init__(self, in_feature: str) -> None:
        super().__init__()
        self.in_feature = in_feature

    def forward(self, x: Tensor) -> list[Tensor]:
        return [x[:, :, ::2, ::2]]


def _for_even_and_odd_sides(graph: ExportGraph) -> ExportGraph:
    """Return a copy without pooling, which `torch.export` allows only even, or only odd, sides."""
    graph = deepcopy(graph)
    for module in graph.modules():
        top = getattr(module, "top_block", None)
        if isinstance(top, LastLevelMaxPool):
            module.top_block = _EverySecondPixel(top.in_feature)
    return graph


Write = Callable[[ExportGraph, GraphInput, list[str], Path], None]
# The file name of each format, and the function that writes it.
FORMATS: dict[str, tuple[str, Write]] = {
    "onnx": ("model.onnx", write_onnx),
    "torch_export": ("model.pt2", write_torch_export),
    "torchscript": ("model.pt", write_torchscript),
}


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the tracers' warnings about sizes; the results for other sizes are checked later."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        yield
