"""Selection without a host that waits, for accelerators: the same instances as of `Selector`.

B images, C cells of all levels, K classes, L levels, T candidates that are looked at, N of them
whose masks were measured, n after NMS, h w of the masks.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from ...ops.matrix_nms import matrix_nms_decay
from ...ops.packed_masks import PackedMasks
from .selection import Selector

# How many candidates are looked at. Most images have fewer than 500, crowds about 2,000; what is
# left of them costs little more than its place: 17 MB at 200x336, one bit for each pixel.
_MOST = 2048


class Candidates(NamedTuple):
    """The best T of each image by score, ordered by cell and class; those that exist come first.

    Attributes:
        scores: float32 [B, T].
        cells: int64 [B, T], ascending where they exist; any cell where not.
        classes: int64 [B, T].
        exist: bool [B, T].
        lowest: float32 [B], what no candidate that was left out is above; -inf where none was.
    """

    scores: Tensor
    cells: Tensor
    classes: Tensor
    exist: Tensor
    lowest: Tensor


# Packs and measures every image's first candidates, all that exist at least.
Measure = Callable[[Candidates], list[PackedMasks]]
# Maps an image, cells [n], and how many of them are of the levels up to each, [L], to the
# probabilities of their masks, float32 [n, h, w].
DecodeKept = Callable[[int, Tensor, list[int]], Tensor]


class Selected(NamedTuple):
    """One image's instances; see `Selector.__call__`."""

    scores: Tensor
    classes: Tensor
    masks: Tensor


class Ranked(NamedTuple):
    """One image's candidates after NMS, the best first, before the host knows how many to keep.

    Attributes:
        scores: float32 [n], descending.
        cells, classes: int64 [n].
        summary: int64 [L + 1], how many are kept of the levels up to each; then 1 if no candidate
            that was left out could have been among the best for NMS, or else 0.
    """

    scores: Tensor
    cells: Tensor
    classes: Tensor
    summary: Tensor


@dataclass(frozen=True)
class Grid:
    """What is known of the cells, on their device.

    Attributes:
        strides: int64 [C], the stride of every cell's level.
        level_ends: int64 [L], the number of cells of the levels up to each.
    """

    strides: Tensor
    level_ends: Tensor

    def count_by_level(self, cells: Tensor, counted: Tensor) -> Tensor:
        """Returns how many of some cells are of the levels up to each.

        Args:
            cells: int64 [..., N].
            counted: bool [..., N], which of them count.

        Returns:
            int64 [..., L].
        """
        cells = torch.where(counted, cells, len(self.strides))
        return (cells[..., None] < self.level_ends).sum(-2)


def suits(selector: Selector, device: torch.device) -> bool:
    """Whether this way is taken: where waiting costs, and NMS has no steps that wait.

    A CPU, which has nothing to wait for, measures no more masks than it needs.
    """
    return device.type != "cpu" and selector.nms_type == "matrix"


def select_at_once(
    selector: Selector,
    cell_scores: Tensor,
    grid: Grid,
    measure: Measure,
    decode: DecodeKept,
) -> Iterator[Selected | None]:
    """Selects the instances of images of one size; all are queued before the host waits once.

    Args:
        selector: says how; its NMS is matrix NMS.
        cell_scores: float32 [B, C, K], probabilities after point NMS.
        grid: of the cells.
        measure: packs and measures candidates.
        decode: makes soft masks of those that are kept.

    Yields:
        One per image. None where so many candidates have such scores that the best for NMS may be
        among those that were not looked at: `Selector` looks at all of them.
    """
    # Autocast is left between two images, as a generator must that is not run to its end.
    no_autocast = partial(torch.autocast, cell_scores.device.type, enabled=False)
    with no_autocast():
        candidates = find_candidates(cell_scores, selector)
        packed = measure(candidates)
        ranked = [
            _rank(selector, Candidates(*image), masks, grid)
            for image, masks in zip(zip(*candidates), packed)
        ]
        # The only wait, unless measuring has one of its own.
        summaries = torch.stack([image.summary for image in ranked]).tolist()
    for index, (image, (*counts, complete)) in enumerate(zip(ranked, summaries)):
        if complete:
            kept = slice(counts[-1])
            with no_autocast():
                masks = decode(index, image.cells[kept], counts)
            yield Selected(image.scores[kept], image.classes[kept], masks)
        else:
            yield None


def find_candidates(cell_scores: Tensor, selector: Selector) -> Candidates:
    """Returns the best of each image's (cell, class) whose score is above the threshold.

    Args:
        cell_scores: float32 [B, C, K].
        selector: says which.
    """
    num_classes = cell_scores.shape[2]
    flat = cell_scores.flatten(1)
    total = flat.shape[1]
    above = torch.where(flat > selector.score_threshold, flat, -torch.inf)
    # Twice what goes into NMS, or else small masks could never be told to leave enough.
    count = min(max(_MOST, 2 * selector.pre_nms), total)
    values, index = above.topk(count, dim=1, sorted=False)
    lowest = values.amin(1) if count < total else values.new_full((len(values),), -torch.inf)
    # Equal scores keep the order of cells and classes: after this any stable sort does so.
    index = torch.where(values > -torch.inf, index, total).sort(1).values
    exist = index < total
    index = index.clamp(max=max(total - 1, 0))
    return Candidates(
        flat.gather(1, index), index // num_classes, index % num_classes, exist, lowest
    )


def _rank(selector: Selector, image: Candidates, masks: PackedMasks, grid: Grid) -> Ranked:
    """Returns one image's candidates after NMS.

    Args:
        selector: says how.
        image: see `Candidates`, without B.
        masks: of the first N.
        grid: of the cells.
    """
    scores, cells, classes, exist = (part[: len(masks.words)] for part in image[:4])
    smallest = grid.strides[cells] if selector.area_filter else 0
    large = exist & (masks.areas > smallest)
    # Below every score, and so after all of them, where nothing is suppressed by them.
    scores = torch.where(large, scores * masks.maskness, -1)
    order, decayed = matrix_nms_decay(
        masks.words,
        classes,
        scores,
        selector.nms_kernel,
        selector.nms_sigma,
        selector.class_agnostic,
        None,
        selector.pre_nms,
    )
    order, decayed = order[: selector.post_nms], decayed[: selector.post_nms]
    kept = large[order] & (decayed >= selector.update_threshold)
    # As maskness is at most 1, no candidate's score rises.
    enough = (scores > image.lowest).sum() >= selector.pre_nms
    complete = enough | (image.lowest == -torch.inf)
    cells = cells[order]
    summary = torch.cat([grid.count_by_level(cells, kept), complete[None]])
    return Ranked(decayed, cells, classes[order], summary)
