"""Kernels as they are compiled: registers, spills, variants, how long a first use takes."""

from __future__ import annotations

import os
import pkgutil
import random
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

import solo_family.ops
from solo_family.ops import gpu_kernels, pack_masks
from solo_family.ops.decode_masks import decode_masks
from solo_family.ops.matrix_nms import matrix_nms_decay
from solo_family.ops.paste_masks import paste_masks_with_boxes
from solo_family.ops.resize import resize_masks_with_boxes
from solo_family.ops.window_boxes import window_boxes

from . import rows, sampling, settings

_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
# The most registers of a kernel before, and variants that pictures' sizes may add to those of
# their first.
_MOST_REGISTERS, _MOST_VARIANTS = 208, 2
_SLOWEST_SECONDS = 0.05


def run() -> None:
    if not settings.on_gpu():
        return rows.needs_a_gpu()
    # With no kernel of earlier runs: a first use compiles.
    with tempfile.TemporaryDirectory() as cache:
        os.environ["TRITON_CACHE_DIR"] = cache
        _time_first_uses()
        with settings.kernels("triton"):
            _use((200, 336), 500)
            _add_kernels()
            with rows.case("kernels in CUDA C"):
                _add_cuda_kernels()
            _count_variants()


def _time_first_uses() -> None:
    torch.zeros(1, device="cuda")
    for kernel in (*gpu_kernels.TRITON, *gpu_kernels.CUDA):
        start = time.perf_counter()
        why = gpu_kernels.failure(kernel, torch.device("cuda", 0))
        seconds = time.perf_counter() - start
        rows.add(f"first use of {kernel}, with its check", why is None, seconds, "s", why or "")


def _use(size: tuple[int, int], count: int) -> None:
    """Launch every kernel as for a picture whose masks have a size in SOLOv2."""
    labels, scores = sampling.candidates(count, 80)
    padded = size[0] * 4, size[1] * 4
    for dtype in _DTYPES:
        kernels, features = sampling.normal(count, 256), sampling.normal(256, *size)
        decoded = decode_masks(kernels.to(dtype), features.to(dtype), 0.5)
        soft = sampling.normal(count, *size).sigmoid().to(dtype)
        pack_masks(soft, 0.5)
        resize_masks_with_boxes(soft[:2], padded, padded, (480, 640), 0.5)
        for kind in ("gaussian", "linear"):
            matrix_nms_decay(decoded.words, labels, scores, kind, 2.0, False)
    window_boxes(sampling.normal(25, size[0] // 2, size[1] // 2), 21, 0.5)
    boxes = sampling.normal(10, 2).mul(100).repeat(1, 2) + torch.tensor([0, 0, 150, 150]).cuda()
    paste_masks_with_boxes(sampling.normal(10, 21, 21), boxes, padded, 0.5, 150)
    torch.cuda.synchronize()


def _kernels() -> dict[str, Any]:
    """Every Triton kernel of the package, by its name."""
    from triton.runtime.jit import JITFunction

    modules = [
        import_module(f"{solo_family.ops.__name__}.{module.name}")
        for module in pkgutil.iter_modules(solo_family.ops.__path__)
        if module.name.endswith("_triton")
    ]
    both = [pair for module in modules for pair in vars(module).items()]
    return {name: value for name, value in both if isinstance(value, JITFunction)}


def _variants(kernel: Any) -> Iterator[Any]:
    """What a kernel was compiled to so far; what other kernels call is never compiled itself."""
    for cache in kernel.device_caches.values():
        yield from cache[0].values()


def _add_kernels() -> None:
    for name, kernel in _kernels().items():
        for made in _variants(kernel):
            note = f"{made.n_spills} bytes spilled, {made.metadata.shared} bytes shared"
            sound = made.n_spills == 0 and made.n_regs <= _MOST_REGISTERS
            rows.add(name, sound, made.n_regs, "registers", note)


def _add_cuda_kernels() -> None:
    """What is compiled for this GPU at run time; Triton brings the tool along that reads it."""
    from triton import knobs

    architecture = "sm_{}{}".format(*torch.cuda.get_device_capability())
    for source in Path(solo_family.ops.__path__[0]).glob("*.cu"):
        from solo_family.ops.nvrtc import compile_cuda

        with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
            file.write(compile_cuda(source, architecture))
            file.flush()
            words = [knobs.nvidia.cuobjdump.path, "--dump-resource-usage", file.name]
            found = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        for name, usage in resource_usage(found).items():
            spilled = usage["STACK"] + usage["LOCAL"]
            note = f"{spilled} bytes of stack and spilled, {usage['SHARED']} bytes shared"
            sound = spilled == 0 and usage["REG"] <= _MOST_REGISTERS
            rows.add(name, sound, usage["REG"], "registers", note)


def resource_usage(printed: str) -> dict[str, dict[str, int]]:
    """Return what each function needs, by its name, from what cuobjdump has printed."""
    functions = re.findall(r"Function (\w+):\n(.*)", printed)
    return {
        name: {key: int(value) for key, value in re.findall(r"(\w+):(\d+)", line)}
        for name, line in functions
    }


def _count_variants() -> None:
    kernels = _kernels()
    before = {name: len(list(_variants(kernel))) for name, kernel in kernels.items()}
    slowest, where = 0.0, (0, 0)
    for size, count in _mask_sizes(150):
        start = time.perf_counter()
        _use(size, count)
        slowest, where = max((slowest, where), (time.perf_counter() - start, size))
    for name, kernel in kernels.items():
        after = len(list(_variants(kernel)))
        if after:
            more = after - before[name]
            note = f"{before[name]} before, at most {_MOST_VARIANTS} more"
            rows.add(f"{name}, 150 sizes", more <= _MOST_VARIANTS, more, "more variants", note)
    note = f"masks of {where}; bar {_SLOWEST_SECONDS}"
    rows.add("slowest of 150 sizes", slowest <= _SLOWEST_SECONDS, slowest, "s", note)


def _mask_sizes(count: int) -> Iterator[tuple[tuple[int, int], int]]:
    """Masks' sizes of pictures as COCO's are, resized as SOLOv2's, and some numbers of masks.

    The numbers are such that matrix NMS takes its kernels.
    """
    generator = random.Random(settings.seed())
    for _ in range(count):
        other = generator.choice((427, 480, 426, 500, 375, generator.randint(300, 640)))
        sides = generator.sample((other, 640), 2)
        scale = min(800 / min(sides), 1333 / max(sides))
        padded = [-(-int(side * scale + 0.5) // 32) * 32 for side in sides]
        yield (padded[0] // 4, padded[1] // 4), generator.randint(250, 400)
