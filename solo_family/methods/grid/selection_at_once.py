"""Select the same instances as `select_in_chunks` without making the host wait for a GPU.

B images, C cells of all levels, K classes, L levels, N cells whose masks were measured, n pairs of
a cell and a class after NMS, h w size of the masks.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from ...ops.packed_masks import PackedMasks, empty_packed
from .decoded_masks import Size, chunk_length, chunks
from .mask_decoder import Grid, GridOutputs
from .selection import Selected, Selection, Selector


class Claims(NamedTuple):
    """Tell which cells of each image have candidates: classes whose score exceeds the threshold.

    Attributes:
        cells: int64 [B, C], first the cells with candidates, in ascending order, then the others.
        counts: int64 [B, L], the cumulative number of cells with candidates per level.
    """

    cells: Tensor
    counts: Tensor


class Ranked(NamedTuple):
    """Hold one image's candidates after NMS, before the host knows how many of them are kept.

    Attributes:
        scores: float32 [n], descending.
        cells: int64 [n].
        classes: int64 [n].
        counts: int64 [L], the cumulative number of kept candidates per level.
    """

    scores: Tensor
    cells: Tensor
    classes: Tensor
    counts: Tensor


def select_at_once(
    selection: Selection,
    outputs: GridOutputs,
    cell_scores: Tensor,
    size: Size,
    ranked: list[Ranked] | None = None,
) -> Iterator[Selected]:
    """Select the instances of every image; the host waits once, after everything is queued.

    Args:
        selection: the rules, the decoder and the grid; the NMS must be matrix NMS.
        outputs: the head's predictions.
        cell_scores: float32 [B, C, K], probabilities after point NMS.
        size: (h, w).
        ranked: the result of `rank`, if it was called before.

    Yields:
        The instances of each image.
    """
    # Autocast is restored before every `yield`, because a caller may never resume this generator.
    no_autocast = partial(torch.autocast, cell_scores.device.type, enabled=False)
    with no_autocast():
        ranked = ranked or rank(selection, outputs, cell_scores, size)
        # The only wait, unless `_measure` has to wait as well.
        counts = torch.stack([image.counts for image in ranked]).tolist()
    for image_outputs, image, image_counts in zip(outputs.images(), ranked, counts):
        kept = slice(image_counts[-1])
        with no_autocast():
            masks = selection.decoder.soft(image_outputs, size, image.cells[kept], image_counts)
        yield Selected(image.scores[kept], image.classes[kept], masks)


def rank(
    selection: Selection, outputs: GridOutputs, cell_scores: Tensor, size: Size
) -> list[Ranked]:
    """Return the candidates of every image after NMS; see `select_at_once` for the arguments.

    No size depends on the content of an image, so nothing waits if the decoder packs directly.
    """
    claims = find_claims(cell_scores, selection.selector, selection.grid)
    # One image after another, so that the masks of all images are never in memory together.
    return [
        _rank_image(selection.selector, scores, cells, masks, selection.grid)
        for scores, cells, masks in zip(
            cell_scores, claims.cells, _measure(selection, outputs, claims, size)
        )
    ]


def find_claims(cell_scores: Tensor, selector: Selector, grid: Grid) -> Claims:
    """Return which cells have candidates.

    Args:
        cell_scores: float32 [B, C, K].
        selector: defines what a candidate is.
        grid: the cells of all levels.
    """
    # As uint8, because not every version of PyTorch sorts bools on a GPU.
    claimed = selector.are_candidates(cell_scores).any(2).to(torch.uint8)
    claimed, cells = claimed.sort(dim=1, descending=True, stable=True)
    return Claims(cells, grid.count_by_level(cells, claimed > 0))


def _measure(
    selection: Selection, outputs: GridOutputs, claims: Claims, size: Size
) -> Iterator[PackedMasks]:
    """Yield the packed masks of each image: at least those of all cells with candidates."""
    decoder, threshold = selection.decoder, selection.selector.mask_threshold
    if decoder.packs_directly:
        for image, cells, on_device in zip(outputs.images(), *claims):
            # The cells with candidates come first; the decoder skips the others.
            yield decoder.packed(image, size, cells, threshold, on_device)
        return
    # This waits for the number of cells with candidates on each level.
    for image, cells, counts in zip(outputs.images(), claims.cells, claims.counts.tolist()):
        yield _pack_in_chunks(selection, image, cells[: counts[-1]], counts, size)


def _pack_in_chunks(
    selection: Selection, outputs: GridOutputs, cells: Tensor, counts: Sequence[int], size: Size
) -> PackedMasks:
    """Pack the masks of one image's cells with candidates, in ascending order, chunk by chunk."""
    parts = []
    for chunk in chunks(len(cells), chunk_length(size, cells.device)):
        within = [min(max(end, chunk.start), chunk.stop) - chunk.start for end in counts]
        threshold = selection.selector.mask_threshold
        parts.append(selection.decoder.packed(outputs, size, cells[chunk], threshold, within))
    if not parts:
        return empty_packed(cells, 0, size[0] * size[1])
    return PackedMasks(*(torch.cat(part) for part in zip(*parts)))


def _rank_image(
    selector: Selector, cell_scores: Tensor, cells: Tensor, masks: PackedMasks, grid: Grid
) -> Ranked:
    """Return one image's candidates after NMS.

    Args:
        selector: the rules.
        cell_scores: float32 [C, K].
        cells: int64 [C], the cells with candidates first, in ascending order.
        masks: the packed masks of the first N of `cells`.
        grid: the cells of all levels.
    """
    cells = cells[: len(masks.words)]
    cell_scores = cell_scores[cells]
    large = selector.are_large(masks.areas, grid.strides[cells])
    exist = selector.are_candidates(cell_scores) & large[:, None]
    # Pairs that are no candidates get the score -1: they come last, where they suppress nothing.
    scores = torch.where(exist, cell_scores * masks.maskness[:, None], -1).flatten()
    scores, best = selector.best_first(scores)
    num_classes = cell_scores.shape[1]
    rows, classes = best // num_classes, best % num_classes
    order, decayed = selector.matrix_nms(masks.words[rows], classes, scores)
    kept = (scores[order] >= 0) & selector.are_kept(decayed)
    cells = cells[rows[order]]
    return Ranked(decayed, cells, classes[order], grid.count_by_level(cells, kept))
