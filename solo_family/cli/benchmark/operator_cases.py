"""Define what the benchmark of operators runs: random inputs, our code, and plain torch.

N masks, E mask features, K classes, k relative positions per axis, m side of a window.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...methods.grid.instances import select_images
from ...methods.grid.mask_decoder import Grid
from ...methods.grid.selection import Selection, Selector
from ...methods.solov2.model import DynamicMaskDecoder, SOLOv2Outputs
from ...ops import decode_masks
from ...ops.matrix_nms import matrix_nms_decay
from ...ops.matrix_nms_torch import matrix_nms_plain
from ...ops.paste_masks import paste_masks_with_boxes
from ...ops.resize import resize_masks_with_boxes
from ...ops.sliding import soft_masks_of_rows
from ...ops.window_boxes import window_boxes
from .candidates import candidate_scores
from .plain import (
    plain_assemble,
    plain_decode,
    plain_paste,
    plain_post_process,
    plain_resize,
    plain_window_boxes,
)

Size = tuple[int, int]
# As published: SOLOv2's features, the stride of its masks, and its largest input; InstanceFCN's
# windows.
_FEATURES, _STRIDE = 256, 4
_POSITIONS, _WINDOW = 5, 21


class Case(NamedTuple):
    """One operator on one input.

    Attributes:
        ours, plain: the functions to time.
        inputs, outputs: bytes that any implementation must read and write once.
        capturable: whether a CUDA graph can hold ours. It can't if the host waits for a result,
            which leaves a capture that can't be ended.
    """

    ours: Callable[[], Any]
    plain: Callable[[], Any]
    inputs: int
    outputs: int
    capturable: bool = True


def matrix_nms_case(
    count: int, size: Size, dtype: torch.dtype, classes: int, device: torch.device
) -> Case:
    """Return matrix NMS of random rectangles, as probabilities or bool."""
    masks = _rectangles(count, size, device)
    masks = masks > 0.5 if dtype == torch.bool else masks.to(dtype)
    threshold = None if dtype == torch.bool else 0.5
    labels = torch.randint(0, classes, (count,), generator=_generator()).to(device)
    scores = torch.rand(count, generator=_generator()).to(device)
    arguments = (masks, labels, scores, "gaussian", 2.0, False, threshold)
    return Case(
        lambda: matrix_nms_decay(*arguments),
        lambda: matrix_nms_plain(*arguments),
        _bytes(masks, labels, scores),
        12 * count,
    )


def decode_case(
    count: int, size: Size, dtype: torch.dtype, classes: int, device: torch.device
) -> Case:
    """Return mask decoding with random kernels and features of 256 channels."""
    kernels = torch.randn(count, _FEATURES, generator=_generator()).to(device, dtype)
    features = torch.randn(_FEATURES, *size, generator=_generator()).to(device, dtype)
    return Case(
        lambda: decode_masks(kernels, features, 0.5),
        lambda: plain_decode(kernels, features, 0.5),
        _bytes(kernels, features),
        count * size[0] * size[1] // 8,
    )


def resize_case(
    count: int, size: Size, dtype: torch.dtype, classes: int, device: torch.device
) -> Case:
    """Return resizing of masks to the network's input, four times as large, and to 3/4 of it."""
    masks = _rectangles(count, size, device).to(dtype)
    padded = size[0] * _STRIDE, size[1] * _STRIDE
    output = padded[0] * 3 // 4, padded[1] * 3 // 4
    arguments = (masks, padded, padded, output, 0.5)
    return Case(
        lambda: resize_masks_with_boxes(*arguments),
        lambda: plain_resize(*arguments),
        _bytes(masks),
        count * output[0] * output[1],
    )


def assemble_case(
    count: int, size: Size, dtype: torch.dtype, classes: int, device: torch.device
) -> Case:
    """Return the assembly of every cell's window, of 5 x 5 positions and 21 x 21 cells.

    `count` has no effect here.
    """
    maps = torch.randn(_POSITIONS**2, *size, generator=_generator()).to(device, dtype)
    return Case(
        lambda: soft_masks_of_rows(maps, _WINDOW),
        lambda: plain_assemble(maps, _WINDOW),
        _bytes(maps),
        size[0] * size[1] * _WINDOW**2 * 4,
    )


def windows_case(
    count: int, size: Size, dtype: torch.dtype, classes: int, device: torch.device
) -> Case:
    """Return the boxes of every cell's window, of which many have no cells.

    `count` has no effect here.
    """
    maps = torch.randn(_POSITIONS**2, *size, generator=_generator()).to(device, dtype) - 1
    return Case(
        lambda: window_boxes(maps, _WINDOW, 0.5),
        lambda: plain_window_boxes(maps, _WINDOW, 0.5),
        _bytes(maps),
        size[0] * size[1] * 17,
    )


def paste_case(
    count: int, size: Size, dtype: torch.dtype, classes: int, device: torch.device
) -> Case:
    """Return the pasting of `count` masks of 21 x 21 into an image, in float32 in any case.

    Their boxes are centred anywhere, as large as the windows of InstanceFCN's scales are in an
    image that is resized to short edges from 119 to 900.
    """
    sides = torch.tensor(size)
    masks = torch.rand(count, _WINDOW, _WINDOW, generator=_generator())
    centers = (torch.rand(count, 2, generator=_generator()) * sides).flip(1)
    scales = torch.randint(0, 6, (count,), generator=_generator())
    reach = 8 * _WINDOW * min(size) / 900 * 1.5 ** scales[:, None] / 2
    boxes = torch.cat([centers - reach, centers + reach], dim=1).to(device)
    masks, longest = masks.to(device), float(2 * reach.max()) if count else 0.0
    return Case(
        lambda: paste_masks_with_boxes(masks, boxes, size, 0.5, longest),
        lambda: plain_paste(masks, boxes, size, 0.5),
        _bytes(masks, boxes),
        count * size[0] * size[1],
    )


def post_process_case(
    count: int, size: Size, dtype: torch.dtype, classes: int, device: torch.device
) -> Case:
    """Return SOLOv2's whole post-processing of `count` candidates, whose masks are discs.

    Candidates are cells and classes drawn at random from the published grids, with random scores.
    """
    cells = 3872
    scores = candidate_scores(cells, classes, count, 0.1).to(device)
    kernels, features = (tensor.to(device, dtype) for tensor in _discs(cells, size))
    padded = size[0] * _STRIDE, size[1] * _STRIDE
    sizes = (padded, padded, padded)
    # Cells of one level.
    grid = Grid(torch.full((cells,), 8, device=device), torch.tensor([cells], device=device))
    selection = Selection(Selector(), DynamicMaskDecoder(), grid)
    # Selection looks at scores, not at category logits.
    outputs = SOLOv2Outputs([scores[None]], kernels[None], features[None])
    batch = (padded, [padded], [padded])

    def ours() -> Any:
        return next(select_images(selection, outputs, scores[None], size, *batch))

    def plain() -> Any:
        """Run the published order of operations in plain torch."""
        chosen, labels = (scores > 0.1).nonzero(as_tuple=True)
        candidates, strides = scores[chosen, labels], grid.strides[chosen]
        return plain_post_process(
            kernels[chosen].float(), features.float(), labels, candidates, strides, sizes
        )

    moved = _bytes(kernels, features), 100 * padded[0] * padded[1]
    # The host waits to learn how many masks are left.
    return Case(ours, plain, *moved, capturable=False)


def _discs(count: int, size: Size) -> tuple[Tensor, Tensor]:
    """Return kernels [N, E] and features [E, *size] whose products draw discs.

    A product is the disc's squared radius less the squared distance from its centre.
    """
    y, x = torch.meshgrid(*(torch.arange(side) / max(size) for side in size), indexing="ij")
    features = torch.randn(_FEATURES, *size, generator=_generator())
    features[:4] = torch.stack([torch.ones_like(x), x, y, x**2 + y**2])
    centre = torch.rand(2, count, generator=_generator()) * torch.tensor(size)[:, None] / max(size)
    radius = 0.02 + 0.15 * torch.rand(count, generator=_generator())
    squares = torch.stack([radius**2 - centre.square().sum(0), 2 * centre[1], 2 * centre[0]])
    kernels = torch.zeros(count, _FEATURES)
    kernels[:, :4] = 3e3 * torch.cat([squares, -torch.ones(1, count)]).T
    return kernels, features


CASES: dict[str, Callable[[int, Size, torch.dtype, int, torch.device], Case]] = {
    "matrix-nms": matrix_nms_case,
    "decode": decode_case,
    "resize": resize_case,
    "assemble": assemble_case,
    "windows": windows_case,
    "paste": paste_case,
    "post-process": post_process_case,
}


def _rectangles(count: int, size: Size, device: torch.device) -> Tensor:
    """Return probabilities, float32 [N, *size], high in a random rectangle of an object's size."""
    sides = torch.tensor(size)
    start = torch.rand(count, 2, generator=_generator()) * sides
    stop = start + (0.05 + 0.4 * torch.rand(count, 2, generator=_generator())) * sides
    y, x = torch.arange(size[0])[:, None], torch.arange(size[1])
    masks = torch.empty(count, *size)
    for mask, (top, left), (bottom, right) in zip(masks, start.tolist(), stop.tolist()):
        mask[:] = ((y >= top) & (y < bottom) & (x >= left) & (x < right)) * 0.8 + 0.1
    return masks.to(device)


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _bytes(*tensors: Tensor) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
