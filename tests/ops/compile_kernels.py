"""Compiles Triton's kernels as the functions that launch them do; a script for a process alone.

`python compile_kernels.py 90 pack nms`: for this architecture, pictures of many sizes, and then
representative launches of every dtype. Prints a JSON list: the operator, the kernel, whether it was
compiled for one of the many sizes, what it is specialised to, and what it needs.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable
from unittest import mock

import torch
from offline_driver import OfflineDriver

from solo_family.ops import decode_masks_triton as decode_module
from solo_family.ops import decode_tiles
from solo_family.ops.decode_masks_triton import decode_masks_triton
from solo_family.ops.group_norm_triton import group_norm_triton
from solo_family.ops.matrix_nms_triton import decay_by_class_triton
from solo_family.ops.max_pool_triton import max_pool_triton
from solo_family.ops.normalise_triton import normalise_triton
from solo_family.ops.packing_triton import pack_masks_triton
from solo_family.ops.paste_masks_triton import paste_masks_triton
from solo_family.ops.resize_maps_triton import resize_maps_triton
from solo_family.ops.resize_masks_triton import resize_masks_triton
from solo_family.ops.window_boxes_triton import window_boxes_triton

FLOATS = (torch.float32, torch.float16, torch.bfloat16)


def _pack(dtype: torch.dtype, size: tuple[int, int], count: int) -> None:
    pack_masks_triton(torch.zeros(count, *size, dtype=dtype), 0.5)


def _decode(dtype: torch.dtype, size: tuple[int, int], count: int) -> None:
    features = torch.zeros(256, *size, dtype=dtype)
    decode_masks_triton(torch.zeros(count, 256, dtype=dtype), features, 0.5)


def _decode_rows(dtype: torch.dtype) -> None:
    """As models do it, whose features may be channels-last, and float32 TensorFloat-32."""
    kernels, valid = torch.zeros(300, 256, dtype=dtype), torch.tensor(5)
    features = torch.zeros(200, 336, 256, dtype=dtype)
    for layout in (features.permute(2, 0, 1), features.view(256, 200, 336)):
        decode_masks_triton(kernels, layout, 0.5, rows=torch.arange(300), valid=valid)


def _resize(dtype: torch.dtype, size: tuple[int, int], count: int) -> None:
    (height, width), (cut, shift) = size, (count % 3, count % 17)
    sizes = (4 * height, 4 * width), (4 * height - cut, 4 * width - cut)
    output = 2 * height + shift, 3 * width + shift
    resize_masks_triton(torch.zeros(count, *size, dtype=dtype), *sizes, output, 0.5)


def _nms(dtype: torch.dtype, size: tuple[int, int], count: int) -> None:
    words = torch.zeros(count, -(-size[0] * size[1] // 32), dtype=dtype)
    rows, labels = torch.arange(count), torch.zeros(count, dtype=torch.int64)
    for kernel in ("gaussian", "linear"):
        decay_by_class_triton(words, rows, labels, kernel, 2.0, None)


def _windows(dtype: torch.dtype, size: tuple[int, int], count: int) -> None:
    positions = 1 + count % 7
    maps = torch.zeros(positions**2, *size, dtype=dtype)
    window_boxes_triton(maps, positions, max(positions, count % 32), 0.5)


def _paste(dtype: torch.dtype, size: tuple[int, int], count: int) -> None:
    side = 1 + count % 32
    masks, boxes = torch.zeros(count, side, side, dtype=dtype), torch.zeros(count, 4)
    paste_masks_triton(masks, boxes, size, 0.5)


def _group_norm(dtype: torch.dtype, size: tuple[int, int], count: int) -> None:
    factors = torch.zeros(256, dtype=dtype), torch.zeros(256, dtype=dtype)
    maps = torch.zeros(1 + count % 2, 256, *size, dtype=dtype)
    group_norm_triton(maps.to(memory_format=torch.channels_last), 32, *factors, 1e-5, True)


def _resize_maps(dtype: torch.dtype, size: tuple[int, int], count: int) -> None:
    x = torch.zeros(1, 256, *size, dtype=dtype).to(memory_format=torch.channels_last)
    resize_maps_triton(x, (40, 40 + count), True)
    if size[0] > 64:
        twice = torch.zeros(1, 256, 2 * size[0], 2 * size[1], dtype=dtype)
        twice = twice.to(memory_format=torch.channels_last)
        resize_maps_triton(x, (2 * size[0], 2 * size[1]), False, twice)


def _normalise(dtype: torch.dtype, size: tuple[int, int], count: int) -> None:
    image, factors = torch.zeros(3, *size, dtype=dtype), torch.zeros(3)
    for order in (torch.channels_last, torch.contiguous_format):
        sides = size[0] + count % 3, size[1] + count % 17
        target = torch.empty((1, 3, *sides), dtype=torch.bfloat16, memory_format=order)
        normalise_triton(image, factors, factors, target[0])


def _max_pool(dtype: torch.dtype, size: tuple[int, int], count: int) -> None:
    max_pool_triton(torch.zeros(1, 64, *size, dtype=dtype).to(memory_format=torch.channels_last))


LAUNCH: dict[str, Callable[[torch.dtype, tuple[int, int], int], None]] = {
    "pack": _pack,
    "decode": _decode,
    "resize": _resize,
    "nms": _nms,
    "windows": _windows,
    "paste": _paste,
    "group_norm": _group_norm,
    "resize_maps": _resize_maps,
    "normalise": _normalise,
    "max_pool": _max_pool,
}
DTYPES = {
    "pack": (*FLOATS, torch.bool),
    "decode": FLOATS,
    "resize": FLOATS,
    "nms": (torch.int32,),
    "windows": (torch.float32,),
    "paste": (torch.float32,),
    "group_norm": FLOATS,
    "resize_maps": FLOATS,
    "max_pool": FLOATS,
    "normalise": (torch.uint8, torch.float32),
}


def launch_representatives(kernel: str) -> None:
    """Sizes that divide well, and sizes that don't, of every dtype."""
    for dtype in DTYPES[kernel]:
        LAUNCH[kernel](dtype, (200, 336), 96)
        LAUNCH[kernel](dtype, (199, 333), 100)
    if kernel != "decode":
        return
    for dtype in FLOATS[:2]:
        _decode_rows(dtype)
    with mock.patch.object(decode_module, "tf32_allowed", return_value=True):
        _decode_rows(torch.float32)


def launch_many_sizes(kernel: str) -> None:
    """150 pictures of one dtype: sides and numbers of masks that divide well, that don't, of 1."""
    chosen = random.Random(0)
    for _ in range(150):
        step = chosen.choice([1, 16])
        size = step * chosen.randint(1, 64 // step), step * chosen.randint(1, 64 // step)
        LAUNCH[kernel](DTYPES[kernel][0], size, chosen.choice([1, 16, chosen.randint(1, 40)]))


def main() -> None:
    arch, *operators = sys.argv[1:]
    rows = []
    for operator in operators:
        driver = OfflineDriver(int(arch)).install()
        together, tiles = int(arch) >= 90, int(arch) >= 80
        with (
            mock.patch.object(decode_tiles, "_multiplies_together", return_value=together),
            mock.patch.object(decode_tiles, "multiplies_tiles", return_value=tiles),
            mock.patch.object(decode_module, "multiplies_tiles", return_value=tiles),
        ):
            launch_many_sizes(operator)
            count = len(driver.compiled)
            launch_representatives(operator)
        assert driver.launches
        for index, variant in enumerate(driver.compiled):
            row = {"operator": operator, "kernel": variant.kernel, "many_sizes": index < count}
            rows.append(row | {"specialised": variant.specialised} | variant.resources())
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
