"""Selection without a host that waits, for accelerators: the same instances as of `Selector`.

B images, C cells of all levels, K classes, L levels, N cells whose masks were measured, n (cell,
class) after NMS, h w of the masks.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from ...ops.matrix_nms import matrix_nms_decay
from ...ops.packed_masks import PackedMasks
from .selection import Selector


class Claims(NamedTuple):
    """Which cells of each image have a class that scores above the threshold.

    Attributes:
        cells: int64 [B, C], first those that have, in ascending order, then the others.
        counts: int64 [B, L], how many have of the levels up to each.
    """

    cells: Tensor
    counts: Tensor


# Packs and measures, image by image, the masks of the first N cells, all that are claimed at least.
Measure = Callable[[Claims], Iterable[PackedMasks]]
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
        counts: int64 [L], how many of them are kept of the levels up to each.
    """

    scores: Tensor
    cells: Tensor
    classes: Tensor
    counts: Tensor


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
    ranked: list[Ranked] | None = None,
) -> Iterator[Selected]:
    """Selects the instances of images of one size; all are queued before the host waits once.

    Args:
        selector: says how; its NMS is matrix NMS.
        cell_scores: float32 [B, C, K], probabilities after point NMS.
        grid: of the cells.
        measure: packs and measures masks.
        decode: makes soft masks of those that are kept.
        ranked: of `rank`, if it was done before.

    Yields:
        One per image.
    """
    # Autocast is as it was between two images, as a generator may never be run to its end.
    no_autocast = partial(torch.autocast, cell_scores.device.type, enabled=False)
    with no_autocast():
        ranked = ranked or rank(selector, cell_scores, grid, measure)
        # The only wait, unless measuring has one of its own.
        counts = torch.stack([image.counts for image in ranked]).tolist()
    for index, (image, image_counts) in enumerate(zip(ranked, counts)):
        kept = slice(image_counts[-1])
        with no_autocast():
            masks = decode(index, image.cells[kept], image_counts)
        yield Selected(image.scores[kept], image.classes[kept], masks)


def rank(selector: Selector, cell_scores: Tensor, grid: Grid, measure: Measure) -> list[Ranked]:
    """Returns what comes out of NMS, image by image; the arguments are those of `select_at_once`.

    Its sizes depend on nothing that an image shows: if `measure` doesn't wait, neither does this.
    """
    claims = find_claims(cell_scores, selector.score_threshold, grid)
    # Image by image, so that the masks of all are never in memory together.
    return [
        _rank_image(selector, scores, cells, masks, grid)
        for scores, cells, masks in zip(cell_scores, claims.cells, measure(claims))
    ]


def find_claims(cell_scores: Tensor, threshold: float, grid: Grid) -> Claims:
    """Returns which cells have candidates.

    Args:
        cell_scores: float32 [B, C, K].
        threshold: candidates are the (cell, class) whose score is greater.
        grid: of the cells.
    """
    # Not of bools, which not every version can sort on a GPU.
    claimed = (cell_scores > threshold).any(2).to(torch.uint8)
    claimed, cells = claimed.sort(dim=1, descending=True, stable=True)
    return Claims(cells, grid.count_by_level(cells, claimed > 0))


def _rank_image(
    selector: Selector, cell_scores: Tensor, cells: Tensor, masks: PackedMasks, grid: Grid
) -> Ranked:
    """Returns one image's candidates after NMS.

    Args:
        selector: says how.
        cell_scores: float32 [C, K].
        cells: int64 [C], those that have candidates first, in ascending order.
        masks: of the first N.
        grid: of the cells.
    """
    cells = cells[: len(masks.words)]
    cell_scores = cell_scores[cells]
    smallest = grid.strides[cells] if selector.area_filter else 0
    exist = (cell_scores > selector.score_threshold) & (masks.areas > smallest)[:, None]
    # What doesn't exist comes after all that does, where it suppresses nothing.
    scores = torch.where(exist, cell_scores * masks.maskness[:, None], -1).flatten()
    # Equal scores keep the order of cells and classes.
    scores, best = scores.sort(descending=True, stable=True)
    scores, best = scores[: selector.pre_nms], best[: selector.pre_nms]
    num_classes = cell_scores.shape[1]
    rows, classes = best // num_classes, best % num_classes
    order, decayed = matrix_nms_decay(
        masks.words[rows],
        classes,
        scores,
        selector.nms_kernel,
        selector.nms_sigma,
        selector.class_agnostic,
    )
    order, decayed = order[: selector.post_nms], decayed[: selector.post_nms]
    kept = (scores[order] >= 0) & (decayed >= selector.update_threshold)
    cells = cells[rows[order]]
    return Ranked(decayed, cells, classes[order], grid.count_by_level(cells, kept))
