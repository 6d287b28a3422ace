"""Times of every operator: eagerly and as a graph, beside the plain way, its compiled form, a copy.

Shape letters: N masks; K classes.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from solo_family.cli.benchmark.operator_cases import CASES, Case
from solo_family.cli.benchmark.timing import cuda_graph, peak_bytes
from solo_family.ops import pack_masks
from solo_family.ops.matrix_nms import matrix_nms_decay
from solo_family.ops.matrix_nms_torch import matrix_nms_plain

from . import rows, sampling, settings
from .timing import copy_of, milliseconds

# What waits for the host can't be captured; plain resizing makes boxes mask by mask, and plain
# pasting, which is detectron2's, goes through masks in chunks.
_WAITS, _DOES_NOT_COMPILE = ("post-process",), ("post-process", "resize", "paste")
_ALSO_TINY = ("decode", "resize", "paste")
_PEAKS = ("decode", "resize", "post-process", "windows", "paste")
# Inputs of matrix NMS whose plain way is compiled: each takes seconds.
_NMS_COMPILED = {(500, "bool", 1), (2000, "bool", 1)}


@dataclass(frozen=True)
class Input:
    """What an operator is run on.

    Attributes:
        operator: "matrix-nms", or another of `CASES`.
        count: N; without meaning for assembling.
        size: of the masks.
        kind: "packed", or a dtype's name.
        classes: K.
    """

    operator: str
    count: int
    size: tuple[int, int]
    kind: str
    classes: int

    def __str__(self) -> str:
        size = f"{self.size[0]}x{self.size[1]}"
        return f"{self.operator} N={self.count} {size} {self.kind} K={self.classes}"


# Milliseconds as a graph and eagerly, on an H100 or H200.
_BARS = {(500, "packed", 1): "bar 0.10 / 0.20", (2000, "packed", 1): "bar 0.25 as a graph"}


def run() -> None:
    with settings.kernels(settings.kernel_choice()), torch.no_grad():
        inputs = _inputs()
        eager = {one: _measure(one) for one in inputs}
        for one in inputs:
            if _compiles(one):
                with rows.case(f"{one}, torch.compile of the plain way"):
                    _measure_compiled(one, eager[one])


def matrix_nms_case(one: Input) -> Case:
    """Return matrix NMS of random rectangles, made on the device."""
    masks = sampling.rectangles(one.count, one.size)
    if one.kind == "packed":
        masks = pack_masks(masks).words
    elif one.kind != "bool":
        masks = masks.to(getattr(torch, one.kind))
    threshold = 0.5 if masks.is_floating_point() else None
    chosen = sampling.candidates(one.count, one.classes)
    arguments = (masks, *chosen, "gaussian", 2.0, False, threshold)
    unpacked = sampling.rectangles(one.count, one.size) if one.kind == "packed" else masks
    return Case(
        lambda: matrix_nms_decay(*arguments),
        # Who has no packed masks has bools.
        lambda: matrix_nms_plain(unpacked, *arguments[1:]),
        masks.numel() * masks.element_size() + 12 * one.count,
        12 * one.count,
    )


def _inputs() -> list[Input]:
    if settings.is_tiny():
        small = (12, 20)
        nms = [Input("matrix-nms", 9, small, kind, 2) for kind in ("packed", "bool", "float16")]
        rest = [Input(operator, 3, small, "float32", 2) for operator in _ALSO_TINY]
        return [*nms, *rest]
    size = (200, 336)
    nms = [
        Input("matrix-nms", count, size, kind, classes)
        for count in (500, 2000, 100, 16, 1, 5000)
        for kind in ("packed", "bool", "float16")
        for classes in (1, 80)
        if classes == 1 or (count in (500, 2000) and kind != "float16")
    ]
    others = [
        Input(operator, count, where, kind, 80)
        for operator, count, where in (
            ("decode", 500, size),
            ("resize", 100, size),
            ("post-process", 500, size),
            ("post-process", 4000, (120, 160)),
            ("assemble", 0, (50, 84)),
            ("windows", 0, (113, 150)),
            ("paste", 1000, (800, 1066)),
        )
        for kind in ("float32", "float16")
        if operator != "paste" or kind == "float32"
    ]
    return [*nms, *others]


def _case(one: Input) -> Case:
    if one.operator == "matrix-nms":
        return matrix_nms_case(one)
    dtype, device = getattr(torch, one.kind), torch.device(settings.device())
    return CASES[one.operator](one.count, one.size, dtype, one.classes, device)


def _measure(one: Input) -> float | None:
    """Add the rows of one input; return our eager time, None where it failed."""
    eager = None
    with rows.case(str(one)):
        case = _case(one)
        copied, eager, plain = map(milliseconds, (copy_of(case.inputs), case.ours, case.plain))
        bar = _BARS.get((one.count, one.kind, one.classes), "")
        rows.add(str(one), value=eager, unit="ms", note=_note(eager, plain, copied, bar))
        if settings.on_gpu() and one.operator not in _WAITS:
            graph = milliseconds(cuda_graph(case.ours))
            note = _note(graph, plain, copied, bar)
            rows.add(f"{one}, as a graph", value=graph, unit="ms", note=note)
        if one.operator in _PEAKS:
            _measure_peaks(one, case)
    return eager


def _note(ours: float, plain: float, copied: float, bar: str) -> str:
    ratios = f"plain / ours {plain / ours:.2f}; {ours / copied:.1f} copies of its input"
    return f"{ratios}; {bar}" if bar else ratios


def _measure_peaks(one: Input, case: Case) -> None:
    device = torch.device(settings.device())
    ours, plain = (peak_bytes(way, device) for way in (case.ours, case.plain))
    if ours is not None and plain is not None:
        note = f"plain {plain / 2**20:.0f} MiB"
        rows.add(f"{one}, peak", value=ours / 2**20, unit="MiB", note=note)


def _compiles(one: Input) -> bool:
    if not settings.on_gpu():
        return False
    if one.operator == "matrix-nms":
        return (one.count, one.kind, one.classes) in _NMS_COMPILED
    return one.operator not in _DOES_NOT_COMPILE


def _measure_compiled(one: Input, eager: float | None) -> None:
    case = _case(one)
    torch._dynamo.reset()
    compiled = torch.compile(case.plain, dynamic=False)
    start = time.perf_counter()
    compiled()
    seconds = time.perf_counter() - start
    took = milliseconds(compiled)
    ratio = f"compiled / ours {took / eager:.2f}; " if eager else ""
    name = f"{one}, torch.compile of the plain way"
    rows.add(name, value=took, unit="ms", note=f"{ratio}{seconds:.1f} s to compile")
