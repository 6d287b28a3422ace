"""The ways that the package has to do matrix NMS: what the choice between them is read from.

Shape letters: N masks; K classes; W words of a mask.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from solo_family.cli.benchmark.timing import cuda_graph
from solo_family.ops import gpu_kernels, pack_masks
from solo_family.ops.matrix_nms import matrix_nms_decay

from . import rows, sampling, settings
from .timing import milliseconds

_DECAY = ("gaussian", 2.0)
# Ways to the factors alone, of masks that are sorted already: name, module, function.
_FACTORS = (
    ("Triton's kernels", "matrix_nms_triton", "decay_by_class_triton"),
    ("one product of all pairs", "matrix_nms_torch", "decay_all_pairs"),
)


def run() -> None:
    if not settings.on_gpu():
        return rows.needs_a_gpu()
    size = (12, 20) if settings.is_tiny() else (200, 336)
    for count in (500, 100, 2000, 16, 50, 200, 1000, 4000):
        words = pack_masks(sampling.rectangles(count, size)).words
        for classes in (1, 80):
            labels, scores = sampling.candidates(count, classes)
            for way, function in _ways(words, labels, scores).items():
                name = f"N={count} W={words.shape[1]} K={classes}: {way}"
                with rows.case(name), torch.no_grad():
                    _measure(name, function)


def _ways(words: Tensor, labels: Tensor, scores: Tensor) -> dict[str, Callable[[], Any]]:
    """Those that exist and work on this GPU, by what they are called."""
    order = scores.sort(descending=True)[1]
    by_class, place = labels[order].sort(stable=True)
    ways: dict[str, Callable[[], Any]] = {
        "as chosen": lambda: matrix_nms_decay(words, labels, scores, *_DECAY, False)
    }
    if "bits" in gpu_kernels.CUDA and gpu_kernels.runs("bits", words):
        bits = import_module("solo_family.ops.matrix_nms_bits").matrix_nms_bits
        ways["single bits"] = lambda: bits(words, labels, scores, *_DECAY, None, None)
    for way, module, name in _FACTORS:
        function = getattr(import_module(f"solo_family.ops.{module}"), name, None)
        if function is not None:
            arguments = (words, order[place], by_class, *_DECAY, None)
            ways[f"{way}, factors alone"] = partial(function, *arguments)
    return ways


def _measure(name: str, function: Callable[[], Any]) -> None:
    eager = milliseconds(function, repeats=15, seconds=0.1)
    graph = milliseconds(cuda_graph(function), repeats=15, seconds=0.1)
    rows.add(name, value=graph, unit="ms as a graph", note=f"eagerly {eager:.4f} ms")
