"""Every kernel on inputs so small that a checker of memory is done in seconds."""

from __future__ import annotations

import torch

from solo_family.ops import pack_masks
from solo_family.ops.decode_masks import decode_masks
from solo_family.ops.matrix_nms import matrix_nms_decay
from solo_family.ops.paste_masks import paste_masks_with_boxes
from solo_family.ops.resize import resize_masks_with_boxes
from solo_family.ops.window_boxes import window_boxes

from . import settings


def main() -> None:
    for choice in ("auto", "triton") if settings.on_gpu() else ("triton",):
        with settings.kernels(choice):
            for count, size in ((1, (1, 1)), (7, (5, 7)), (65, (13, 17))):
                _run(count, size)
    if settings.on_gpu():
        torch.cuda.synchronize()


def _run(count: int, size: tuple[int, int]) -> None:
    device = settings.device()
    soft = torch.rand(count, *size, device=device)
    labels, scores = torch.zeros(count, dtype=torch.int64, device=device), soft[:, 0, 0]
    words = pack_masks(soft > 0.5).words
    for masks, threshold in ((soft, 0.5), (soft > 0.5, None), (soft.half(), 0.5), (words, None)):
        for kind in ("linear", "gaussian"):
            matrix_nms_decay(masks, labels, scores, kind, 2.0, False, threshold)
    for dtype in (torch.float32, torch.float16):
        pack_masks(soft.to(dtype), 0.5)
        kernels = torch.randn(count, 33, device=device, dtype=dtype)
        features = torch.randn(33, *size, device=device, dtype=dtype)
        decode_masks(kernels, features, 0.5)
        resize_masks_with_boxes(soft.to(dtype), (32, 32), (31, 29), (45, 61), 0.5)
        window_boxes(torch.randn(9, *size, device=device, dtype=dtype), 5, 0.5, maskness=True)
    boxes = torch.rand(count, 2, device=device).repeat(1, 2) * 60 - 20
    boxes[:, 2:] += 30
    small = torch.rand(count, 5, 5, device=device)
    paste_masks_with_boxes(small, boxes, (45, 61), 0.5, 30)


if __name__ == "__main__":
    main()
