"""Do matrix NMS on a GPU whose tensor cores multiply single bits, in three launches.

The kernels are in `matrix_nms.cu`; the words of packed masks are the operands of the instruction.

N masks; n the best of them that take part; h w the masks' size; W words of a mask.
"""

from __future__ import annotations

import ctypes
from pathlib import Path

import torch
from torch import Tensor

from . import nvrtc
from .checks import is_packed

_SOURCE = Path(__file__).with_name("matrix_nms.cu")
_PREPARE = {
    torch.int32: "prepare_words",
    torch.bool: "prepare_bool",
    torch.float16: "prepare_float16",
    torch.bfloat16: "prepare_bfloat16",
    torch.float32: "prepare_float32",
}
_KERNELS = (
    *_PREPARE.values(),
    *(f"intersect_{squares}_{vector}" for squares in (1, 2) for vector in (1, 2, 4)),
    "decay_gaussian",
    "decay_linear",
)
# As in the source: threads of a block, and how many scores its last block can sort.
_THREADS, _DECAY_THREADS, _DECAY_COLUMNS = 256, 1024, 32
_MAX_SORTED = 4096
# From this number of masks on a block compares 64 x 64 pairs: fewer words are read for each pair,
# but with fewer masks there would not be a block for every multiprocessor.
_LARGE_SQUARES_FROM = 1000


class _Problem(ctypes.Structure):
    """The struct `Problem` of the source."""

    _fields_ = (
        *(
            (name, ctypes.c_void_p)
            for name in (
                *("masks", "picks", "labels", "scores", "words", "iou", "index", "unsorted"),
                *("order", "decayed", "rows", "starts", "places", "areas", "ranked_scores"),
                *("compensation", "finished"),
            )
        ),
        ("pixels", ctypes.c_longlong),
        ("count", ctypes.c_int),
        ("width", ctypes.c_int),
        ("threshold", ctypes.c_float),
        ("sigma", ctypes.c_float),
    )


def matrix_nms_bits(
    masks: Tensor,
    labels: Tensor | None,
    scores: Tensor,
    kernel: str,
    sigma: float,
    mask_threshold: float | None,
    pre_nms: int | None,
) -> tuple[Tensor, Tensor]:
    """Compute `matrix_nms_decay` without making the host wait, in 4 bytes for each pair of masks.

    Args:
        masks: [N, h, w] of bool, float16, bfloat16 or float32, or int32 words [N, W].
        labels: integers [N]; None for one class.
        scores: see `matrix_nms`.
        kernel: see `matrix_nms`.
        sigma: see `matrix_nms`.
        mask_threshold: see `matrix_nms`.
        pre_nms: see `matrix_nms`.

    Returns:
        order, decayed: see `matrix_nms_decay`.

    Raises:
        RuntimeError: the kernels don't compile, or the driver refuses them.
    """
    scores = scores.float().contiguous()
    picks = None
    if pre_nms is not None and pre_nms < len(scores):
        picks = scores.sort(descending=True, stable=True)[1][:pre_nms]
    count = len(scores if picks is None else picks)
    order = scores.new_empty(count, dtype=torch.int64)
    decayed = scores.new_empty(count)
    if not count:
        return order, decayed
    masks = masks.contiguous()
    # Every tensor that is pointed to keeps a name, and so its memory, until everything is launched.
    labels = None if labels is None else labels.long().contiguous()
    problem, workspace = _problem(masks, picks, labels, scores, order, decayed)
    problem.sigma, problem.threshold = sigma, mask_threshold or 0.0
    with torch.cuda.device_of(masks):
        _launch(problem, masks, kernel)
    del workspace
    if count <= _MAX_SORTED:
        return order, decayed
    decayed, rank = decayed.sort(descending=True, stable=True)
    return order[rank], decayed


def _problem(
    masks: Tensor,
    picks: Tensor | None,
    labels: Tensor | None,
    scores: Tensor,
    order: Tensor,
    decayed: Tensor,
) -> tuple[_Problem, Tensor]:
    """Return the kernels' arguments without their constants, and the memory that they work in."""
    count, packed = len(order), is_packed(masks)
    pixels = masks.shape[1:].numel()
    # Rows that are packed here have a multiple of four words, so that the widest reads are aligned.
    width = masks.shape[1] if packed else -(-pixels // 128) * 4
    new_words = 0 if packed else count * width
    workspace = masks.new_empty(new_words + count * (count + 9) + 1, dtype=torch.int32)
    words = workspace.data_ptr()
    # The arrays with elements of eight bytes come first, so that they are aligned.
    index = words + 4 * new_words
    arrays = [index + 4 * count * place for place in range(2, 10)]
    unsorted, rows, starts, places, areas, ranked_scores, compensation, finished = arrays
    sorts = count <= _MAX_SORTED
    problem = _Problem(
        masks=masks.data_ptr(),
        picks=None if picks is None else picks.data_ptr(),
        labels=None if labels is None else labels.data_ptr(),
        scores=scores.data_ptr(),
        words=masks.data_ptr() if packed else words,
        iou=finished + 4,
        # Left unsorted, they are sorted by torch.
        index=index if sorts else order.data_ptr(),
        unsorted=unsorted if sorts else decayed.data_ptr(),
        order=order.data_ptr() if sorts else None,
        decayed=decayed.data_ptr() if sorts else None,
        rows=rows,
        starts=starts,
        places=places,
        areas=areas,
        ranked_scores=ranked_scores,
        compensation=compensation,
        finished=finished,
        pixels=pixels,
        count=count,
        width=width,
    )
    return problem, workspace


def _launch(problem: _Problem, masks: Tensor, kernel: str) -> None:
    module = nvrtc.load_module(_SOURCE, _KERNELS, masks.get_device())
    count = problem.count
    squares = 2 if count >= _LARGE_SQUARES_FROM else 1
    tiles = -(-count // (32 * squares))
    vector = _vector(problem.words, problem.width)
    blocks = -(-count // _DECAY_COLUMNS)
    kernels = (
        (_PREPARE[masks.dtype], (count, 1), _THREADS),
        (f"intersect_{squares}_{vector}", (tiles, tiles), _THREADS),
        (f"decay_{kernel}", (blocks, 1), _DECAY_THREADS),
    )
    module.launch(kernels, problem)


def _vector(address: int | None, width: int) -> int:
    """Return how many words of each row can be read at a time."""
    address = address or 0
    return next(n for n in (4, 2, 1) if width % n == 0 and address % (4 * n) == 0)
