"""From the cells of a grid to the instances of images: all that follows the network.

B images, C cells of all levels, K classes, L levels, n cells, h w of the masks.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Protocol

import torch
from detectron2.structures import Instances
from torch import Tensor

from ...modeling.instances import make_instances
from ...ops import PackedMasks, pack_masks, resize_masks_with_boxes
from .selection import Decode, Pack, Selector, chunk_length
from .selection_at_once import Claims, Grid, Ranked, Selected, rank, select_at_once, suits

Size = tuple[int, int]


class GridModel(Protocol):
    """What a method says of its cells and masks; see `GridSegmentor`."""

    selector: Selector
    mask_stride: int

    @property
    def grid(self) -> Grid: ...

    def decode(self, masks: Sequence[Tensor], size: Size, cells: Tensor) -> Tensor: ...

    def packer(self, masks: Sequence[Tensor]) -> Pack | None: ...

    @property
    def measures_at_once(self) -> bool: ...

    def measure_at_once(
        self, masks: Sequence[Tensor], size: Size, claims: Claims
    ) -> Iterable[PackedMasks]: ...

    def decode_kept(
        self, masks: Sequence[Tensor], size: Size, cells: Tensor, counts: list[int]
    ) -> Tensor: ...


def rank_images(
    model: GridModel, masks: Sequence[Tensor], cell_scores: Tensor, padded_size: Size
) -> list[Ranked] | None:
    """Returns the candidates of images after NMS; None where that is not done without a wait.

    Args:
        model, masks, cell_scores, padded_size: see `select_images`.
    """
    if not (model.measures_at_once and suits(model.selector, cell_scores.device)):
        return None
    measure = partial(model.measure_at_once, masks, _mask_size(model, padded_size))
    with torch.autocast(cell_scores.device.type, enabled=False):
        return rank(model.selector, cell_scores, model.grid, measure)


def select_images(
    model: GridModel,
    masks: Sequence[Tensor],
    cell_scores: Tensor,
    padded_size: Size,
    image_sizes: list[Size],
    output_sizes: list[Size],
    ranked: list[Ranked] | None = None,
) -> Iterator[Instances]:
    """Yields the instances of images of one padded size.

    Args:
        model: says how to select, and what masks are.
        masks: what they are made of, each [B, ...].
        cell_scores: float32 [B, C, K], probabilities after point NMS.
        padded_size: (height, width) of the network's input.
        image_sizes: (height, width) of each image in it, without padding.
        output_sizes: (height, width) that each image's result is asked for.
        ranked: of `rank_images`.
    """
    mask_size = _mask_size(model, padded_size)
    images = list(image_by_image(masks))
    if suits(model.selector, cell_scores.device):
        selected = select_at_once(
            model.selector,
            cell_scores,
            model.grid,
            partial(model.measure_at_once, masks, mask_size),
            lambda index, *cells: model.decode_kept(images[index], mask_size, *cells),
            ranked,
        )
    else:
        selected = (
            _select_in_chunks(model, image, scores, mask_size)
            for image, scores in zip(images, cell_scores)
        )
    threshold = model.selector.mask_threshold
    for (scores, classes, soft), size, output_size in zip(selected, image_sizes, output_sizes):
        binary, boxes = resize_masks_with_boxes(soft, padded_size, size, output_size, threshold)
        yield make_instances(binary, scores, classes, boxes)


def _mask_size(model: GridModel, padded_size: Size) -> Size:
    return padded_size[0] // model.mask_stride, padded_size[1] // model.mask_stride


def _select_in_chunks(
    model: GridModel, masks: Sequence[Tensor], cell_scores: Tensor, size: Size
) -> Selected:
    """Returns one image's instances, in as many steps as its candidates need."""
    decode = partial(model.decode, masks, size)
    with torch.autocast(cell_scores.device.type, enabled=False):
        return Selected(
            *model.selector(cell_scores, model.grid.strides, decode, size, model.packer(masks))
        )


def pack_in_chunks(decode: Decode, cells: Tensor, size: Size, threshold: float) -> PackedMasks:
    """Packs the masks of some cells, a part of them at a time.

    Args:
        decode: maps cells to probabilities.
        cells: int64 [n].
        size: (h, w).
        threshold: a mask's pixels are those whose probability is greater.
    """
    chunks = cells.split(chunk_length(size, cells.device))
    return join_masks([pack_masks(decode(chunk), threshold) for chunk in chunks])


def join_masks(parts: Sequence[PackedMasks]) -> PackedMasks:
    """Returns masks of one size in one, at least one part of them."""
    return PackedMasks(*(torch.cat(part) for part in zip(*parts)))


def image_by_image(masks: Sequence[Tensor]) -> Iterable[tuple[Tensor, ...]]:
    """Yields what belongs to one image after another, of tensors [B, ...].

    Unbound at once: the gradient of an index is a tensor of zeros of the whole batch's size.
    """
    return zip(*(part.unbind() for part in masks))
