"""Selection without a host that waits, for GPUs: the same instances as of `select_in_chunks`.

B images, C cells of all levels, K classes, L levels, N cells whose masks were measured, n (cell,
class) after NMS, h w of the masks.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from ...ops.packed_masks import PackedMasks, empty_packed
from .mask_decoder import Grid, GridOutputs
from .selection import Selected, Selection, Selector, Size, chunk_length, chunks


class Claims(NamedTuple):
    """Which cells of each image have a class that scores above the threshold.

    Attributes:
        cells: int64 [B, C], first those that have, in ascending order, then the others.
        counts: int64 [B, L], how many have of the levels up to each.
    """

    cells: Tensor
    counts: Tensor


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


def select_at_once(
    selection: Selection,
    outputs: GridOutputs,
    cell_scores: Tensor,
    size: Size,
    ranked: list[Ranked] | None = None,
) -> Iterator[Selected]:
    """Select the instances of images of one size; all are queued before the host waits once.

    Args:
        selection: says how; its NMS is matrix NMS.
        outputs: what the head predicts.
        cell_scores: float32 [B, C, K], probabilities after point NMS.
        size: (h, w).
        ranked: of `rank`, if it was done before.

    Yields:
        One per image.
    """
    # Autocast is as it was between two images, as a generator may never be run to its end.
    no_autocast = partial(torch.autocast, cell_scores.device.type, enabled=False)
    with no_autocast():
        ranked = ranked or rank(selection, outputs, cell_scores, size)
        # The only wait, unless measuring has one of its own.
        counts = torch.stack([image.counts for image in ranked]).tolist()
    for image_outputs, image, image_counts in zip(outputs.images(), ranked, counts):
        kept = slice(image_counts[-1])
        with no_autocast():
            masks = selection.decoder.soft(image_outputs, size, image.cells[kept], image_counts)
        yield Selected(image.scores[kept], image.classes[kept], masks)


def rank(
    selection: Selection, outputs: GridOutputs, cell_scores: Tensor, size: Size
) -> list[Ranked]:
    """Return what comes out of NMS, image by image; the arguments are those of `select_at_once`.

    Its sizes depend on nothing that an image shows: if the decoder packs directly, nothing waits.
    """
    claims = find_claims(cell_scores, selection.selector, selection.grid)
    # Image by image, so that the masks of all are never in memory together.
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
        selector: says what a candidate is.
        grid: of the cells.
    """
    # Not of bools, which not every version can sort on a GPU.
    claimed = selector.are_candidates(cell_scores).any(2).to(torch.uint8)
    claimed, cells = claimed.sort(dim=1, descending=True, stable=True)
    return Claims(cells, grid.count_by_level(cells, claimed > 0))


def _measure(
    selection: Selection, outputs: GridOutputs, claims: Claims, size: Size
) -> Iterator[PackedMasks]:
    """Yield every image's masks of the first cells, all that are claimed at least."""
    decoder, threshold = selection.decoder, selection.selector.mask_threshold
    if decoder.packs_directly:
        for image, cells, on_device in zip(outputs.images(), *claims):
            # Those that are claimed come first; the others cost next to nothing.
            yield decoder.packed(image, size, cells, threshold, on_device)
        return
    # A wait: for how many claimed cells each level has.
    for image, cells, counts in zip(outputs.images(), claims.cells, claims.counts.tolist()):
        yield _pack_in_chunks(selection, image, cells[: counts[-1]], counts, size)


def _pack_in_chunks(
    selection: Selection, outputs: GridOutputs, cells: Tensor, counts: Sequence[int], size: Size
) -> PackedMasks:
    """Pack the masks of one image's claimed cells, in ascending order, a part at a time."""
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
        selector: says what stays.
        cell_scores: float32 [C, K].
        cells: int64 [C], those that have candidates first, in ascending order.
        masks: of the first N.
        grid: of the cells.
    """
    cells = cells[: len(masks.words)]
    cell_scores = cell_scores[cells]
    large = selector.are_large(masks.areas, grid.strides[cells])
    exist = selector.are_candidates(cell_scores) & large[:, None]
    # What doesn't exist comes after all that does, where it suppresses nothing.
    scores = torch.where(exist, cell_scores * masks.maskness[:, None], -1).flatten()
    scores, best = selector.best_first(scores)
    num_classes = cell_scores.shape[1]
    rows, classes = best // num_classes, best % num_classes
    order, decayed = selector.matrix_nms(masks.words[rows], classes, scores)
    kept = (scores[order] >= 0) & selector.are_kept(decayed)
    cells = cells[rows[order]]
    return Ranked(decayed, cells, classes[order], grid.count_by_level(cells, kept))
