"""Hold the masks of an image as runs, where bools would take too much memory.

N, M masks; H W of the image; h w of a part of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .masks import iou_from, mask_iou
from .rle import encode_runs
from .run_pairs import pair_intersections
from .runs import Runs, boxes_and_areas, coco_lengths, fill, joined, runs_of
from .window import Window

# Masks that take no more memory than this are returned as bools.
DENSE_BYTES = 256 * 2**20
_PREFERS_RUNS: ContextVar[bool] = ContextVar("prefers_runs", default=False)
# Bytes of the bools of those masks that are turned into runs at a time.
_PART_BYTES = 64 * 2**20


class RunMasks:
    """The masks of the instances of an image, in memory as their runs; see `Runs`.

    It stands where detectron2's `Instances` have a bool tensor [N, H, W] as `pred_masks`, and can
    be indexed likewise; `tensor` and `numpy()` make one.

    Args:
        masks: N of them.
        size: (H, W).
    """

    def __init__(self, masks: Sequence[Runs], size: tuple[int, int]) -> None:
        self.masks = list(masks)
        self.size = size

    @staticmethod
    def cat(parts: Sequence[RunMasks]) -> RunMasks:
        """Return the masks of several objects as one, as `Instances.cat` needs it."""
        return RunMasks([mask for part in parts for mask in part.masks], parts[0].size)

    def __len__(self) -> int:
        """Return N."""
        return len(self.masks)

    def __getitem__(self, index: Any) -> Any:
        """Return what indexing the tensor would.

        Args:
            index: a slice, or a tensor of bools or indices, of masks: some masks, as runs. An int:
                one mask, bool [H, W]. A tuple of these and of slices of rows and columns: bools.
                Any other, such as `None` or `...`: bools, by way of all masks' bools.
        """
        if isinstance(index, Tensor) and index.dim() == 0 and index.dtype != torch.bool:
            index = int(index)
        if isinstance(index, tuple) and _cuts_out(index):
            return self._pixels(*index)
        if isinstance(index, tuple | bool) or index is None or index is Ellipsis:
            return self.tensor[index]
        if isinstance(index, int | np.integer):
            (mask,) = RunMasks([self.masks[index]], self.size).tensor
            return mask
        every = torch.arange(len(self), device="cpu")
        places = every[index.cpu() if isinstance(index, Tensor) else index]
        return RunMasks([self.masks[i] for i in places.reshape(-1).tolist()], self.size)

    def __getattr__(self, name: str) -> Any:
        """Say where what a tensor has besides can be found."""
        raise AttributeError(
            f"masks of which bools would take too much memory are runs, which have no {name!r}. "
            f"`.tensor` makes bools [N, H, W] of them: {self.shape}; indexing them first, as in "
            "`[:10].tensor`, makes those of some."
            if "size" in vars(self)
            else name
        )

    def __iter__(self) -> Iterator[Tensor]:
        """Yield each mask as bool [H, W]."""
        return (self[index] for index in range(len(self)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Return what numpy makes of it; without this, numpy would index without an end."""
        return self.numpy().astype(bool if dtype is None else dtype, copy=False)

    def _pixels(self, masks: Any, rows: Any = slice(None), columns: Any = slice(None)) -> Tensor:
        """Return a part of some masks, bool [N, h, w], or [h, w] of one."""
        if isinstance(masks, int | np.integer):
            return self._pixels(slice(masks, masks + 1 or None), rows, columns)[0]
        sides = [side.indices(length) for side, length in zip((rows, columns), self.size)]
        (top, bottom, _), (left, right, _) = sides
        window = Window(top, left, max(top, bottom), max(left, right))
        chosen = self[masks].masks
        pixels = torch.zeros((len(chosen), *window.size), dtype=torch.bool, device="cpu")
        for part, mask in zip(pixels, chosen):
            part.copy_(torch.from_numpy(fill(mask, window, self.size[0])))
        return pixels[:, :: sides[0][2], :: sides[1][2]]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(N, H, W)."""
        return (len(self), *self.size)

    @property
    def dtype(self) -> torch.dtype:
        """That of the tensor."""
        return torch.bool

    @property
    def device(self) -> torch.device:
        """The CPU."""
        return torch.device("cpu")

    @property
    def tensor(self) -> Tensor:
        """The masks as bool [N, H, W]."""
        return self._pixels(slice(None))

    def numpy(self) -> np.ndarray:
        """Return the masks as bool [N, H, W]."""
        return self.tensor.numpy()

    def to(self, *_: Any, **__: Any) -> RunMasks:
        """Return itself: it is on the CPU."""
        return self

    def cpu(self) -> RunMasks:
        """Return itself."""
        return self

    @property
    def areas(self) -> Tensor:
        """Number of pixels of each mask, int64 [N]."""
        return torch.from_numpy(boxes_and_areas(*joined(self.masks), self.size[0])[1])

    @property
    def boxes(self) -> Tensor:
        """Boxes tight around the masks, float32 [N, 4]: x0 y0 x1 y1, ends exclusive."""
        boxes, _ = boxes_and_areas(*joined(self.masks), self.size[0])
        return torch.from_numpy(boxes[:, [1, 0, 3, 2]]).float()

    def rles(self) -> list[dict[str, Any]]:
        """Return the masks in COCO's compressed RLE: for each "size" and "counts", str."""
        return encode_runs(*coco_lengths(self.masks, self.size), self.size)


def _cuts_out(index: tuple[Any, ...]) -> bool:
    """Return whether an index is one of some masks, and slices of rows and columns."""
    if not 1 <= len(index) <= 3:
        return False
    first, *sides = index
    is_one = isinstance(first, int | np.integer) and not isinstance(first, bool)
    is_some = isinstance(first, slice) or (isinstance(first, Tensor) and first.dim() == 1)
    return (is_one or is_some) and all(isinstance(side, slice) for side in sides)


@contextmanager
def preferring_runs() -> Iterator[None]:
    """Within this, make masks on a CPU as runs whatever their size: tiles are joined as such."""
    token = _PREFERS_RUNS.set(True)
    try:
        yield
    finally:
        _PREFERS_RUNS.reset(token)


def are_dense(count: int, size: tuple[int, int], device: torch.device | None = None) -> bool:
    """Return whether masks are to be a tensor of bools, rather than `RunMasks`.

    On a GPU they always are: who goes on there would have to copy runs back.

    Args:
        count: N.
        size: (H, W).
        device: of the masks; None for the CPU.
    """
    on_cpu = device is None or device.type == "cpu"
    is_small = count * size[0] * size[1] <= DENSE_BYTES
    return not on_cpu or (is_small and not _PREFERS_RUNS.get())


def pixels_of(masks: Tensor | RunMasks) -> Tensor:
    """Return masks that may be runs as bool [N, H, W]."""
    return masks.tensor if isinstance(masks, RunMasks) else masks


def mask_parts(count: int, size: tuple[int, int], most: int) -> list[slice]:
    """Return slices of N masks, of at most `most` each, whose bools are few enough for memory."""
    step = max(1, min(most, _PART_BYTES // (size[0] * size[1])))
    return [slice(start, min(start + step, count)) for start in range(0, count, step)]


def whole_runs(masks: Tensor) -> list[Runs]:
    """Return the runs of masks of an image, bool [N, H, W]."""
    height, width = masks.shape[1:]
    return runs_of(masks, Window(0, 0, height, width), height)


def collect_runs(
    compute: Callable[[slice], Tensor], parts: Sequence[slice], size: tuple[int, int]
) -> RunMasks:
    """Return masks of which one part after another is computed as bools.

    Args:
        compute: returns the masks of a slice, bool [n, H, W].
        parts: the slices; see `mask_parts`.
        size: (H, W).
    """
    return RunMasks([mask for part in parts for mask in whole_runs(compute(part))], size)


def iou_of_any(a: Tensor | RunMasks, b: Tensor | RunMasks) -> Tensor:
    """Return `mask_iou`, float32 [N, M], of masks of which some may be runs."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return mask_iou(a, b)
    height, width = a.shape[1:]
    ours, theirs = (
        masks if isinstance(masks, RunMasks) else RunMasks(whole_runs(masks), (height, width))
        for masks in (a, b)
    )
    boxes, others = ours.boxes[:, None], theirs.boxes
    begins, ends = torch.maximum(boxes, others)[..., :2], torch.minimum(boxes, others)[..., 2:]
    near = (begins < ends).all(-1).nonzero(as_tuple=True)
    pairs = near[0].numpy(), near[1].numpy()
    shared = pair_intersections(joined(ours.masks), joined(theirs.masks), pairs)
    common = torch.zeros((len(ours), len(theirs)), dtype=torch.int64, device="cpu")
    common[near] = torch.from_numpy(shared)
    return iou_from(common, ours.areas, theirs.areas)


def are_empty(masks: Tensor | RunMasks) -> Tensor:
    """Return which masks, bools or runs, have no pixels: bool [N]."""
    return masks.areas == 0 if isinstance(masks, RunMasks) else ~masks.flatten(1).any(1)
