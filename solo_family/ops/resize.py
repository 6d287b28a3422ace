"""Resize features, and masks to the original image, bilinearly between pixel centres.

B images; C channels; N masks; n of them; h w of the network's masks; H W of the requested output.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from . import gpu_kernels
from .crops import bools_of_crops
from .masks import mask_boxes
from .resize_crops import MASKS_AT_ONCE, are_mostly_small, resized_crops
from .resize_maps import resize_map
from .resize_rows import MaskRows, resized_rows

# Bytes of float maps in memory at a time.
_CHUNK_BYTES = 64 * 2**20
# On a GPU every chunk adds a few launches, whatever its size.
_GPU_CHUNKS = 4

Size = tuple[int, int]


def resize_bilinear(features: Tensor, size: Size) -> Tensor:
    """Resize [B, C, H, W] to [B, C, *size]; features of that size are returned as they are."""
    if _has_size(features, size):
        return features
    return resize_map(features, size)


def _has_size(features: Tensor, size: Size) -> bool:
    # For a symbolic size the answer would be fixed for every image that an exported program gets,
    # and code would be compiled again where it changes. Resizing to the same size is exact.
    symbolic = torch.compiler.is_dynamo_compiling() or any(
        isinstance(side, torch.SymInt) for side in features.shape
    )
    return not symbolic and features.shape[-2:] == size


def sample_cells(features: Tensor, counts: Size, cell: tuple[float, float]) -> Tensor:
    """Return features at the centres of cells of one size, bilinearly; beyond the map its border's.

    Where the cells fill the map exactly it is what `resize_bilinear` gives; where they are the
    pixels, the features as they are.

    Args:
        features: [B, C, H, W].
        counts: rows and columns of cells, from the map's first pixel on.
        cell: height and width of a cell, in pixels of the map.

    Returns:
        [B, C, *counts].
    """
    if cell == (1, 1) and _has_size(features, counts):
        return features
    dtype = features.dtype
    # With its channels last, what is copied of a place is in one piece.
    features = features.permute(0, 2, 3, 1)
    for axis, count, length in zip((1, 2), counts, cell):
        # Tensors, so that a traced graph follows the size of its input.
        last = torch.arange(features.shape[axis], device=features.device)[-1:]
        centres = torch.arange(count, device=features.device, dtype=torch.float32)
        # The first pixel's centre is at 0.5.
        places = torch.minimum(((centres + 0.5) * length - 0.5).clamp(min=0), last)
        before = places.long()
        after = torch.minimum(before + 1, last)
        share = places - before
        share = share[:, None, None] if axis == 1 else share[:, None]
        first = features.index_select(axis, before).float()
        features = features.index_select(axis, after).float().sub_(first).mul_(share).add_(first)
    return features.permute(0, 3, 1, 2).to(dtype)


def resize_soft_masks(
    masks: Tensor, padded_size: Size, image_size: Size, output_size: Size
) -> Tensor:
    """Resize soft masks in two steps: to the network's padded input, then from the image in it.

    Args:
        masks: [N, h, w], probabilities or logits.
        padded_size: (height, width) of the network's input.
        image_size: (height, width) of the image in it, without padding.
        output_size: (H, W).

    Returns:
        float32 [N, H, W].
    """
    soft = resize_bilinear(masks.float()[None], padded_size)
    return resize_bilinear(soft[..., : image_size[0], : image_size[1]], output_size)[0]


@dataclass(frozen=True)
class ResizedMasks:
    """Soft masks of one image, resized in two bilinear steps, as published, a few at a time.

    They are resized to the network's padded input, from which the image is cropped, and then to the
    output. A single step, or steps on thresholded masks, would give other masks; so would steps on
    logits where probabilities are published.

    Attributes:
        masks: [N, h, w], probabilities or logits.
        padded_size: (height, width) of the network's input.
        image_size: (height, width) of the image in it, without padding.
        output_size: (H, W).
    """

    masks: Tensor
    padded_size: Size
    image_size: Size
    output_size: Size

    def __iter__(self) -> Iterator[tuple[slice, Tensor]]:
        """Yield a slice of the masks, and these, float32 [n, H, W], which may be overwritten."""
        pixels = sum(side[0] * side[1] for side in (self.padded_size, self.output_size))
        at_once = _CHUNK_BYTES * (_GPU_CHUNKS if self.masks.device.type == "cuda" else 1)
        chunk = max(1, at_once // (4 * pixels))
        for start in range(0, len(self.masks), chunk):
            part = slice(start, min(start + chunk, len(self.masks)))
            sizes = self.padded_size, self.image_size, self.output_size
            yield part, resize_soft_masks(self.masks[part], *sizes)

    @property
    def by_rows(self) -> bool:
        """Whether `rows` is faster than iterating, which it is on a CPU.

        A tracer records the iteration, because fvcore counts no product into a given tensor.
        """
        return self.masks.device.type == "cpu" and not torch.jit.is_tracing()

    def rows(self, as_for: int = 0) -> MaskRows:
        """Return the masks as what iterating yields, but in blocks of rows of all masks.

        Args:
            as_for: see `resized_rows`.
        """
        sizes = self.padded_size, self.image_size, self.output_size
        blocks = resized_rows(self.masks, *sizes, resize_soft_masks, as_for)
        return MaskRows(len(self.masks), blocks)

    def __getitem__(self, chosen: Tensor) -> ResizedMasks:
        """Return some masks: those with indices int64 [n], or those where bool [N] is set."""
        return replace(self, masks=self.masks[chosen])


def resize_masks(
    masks: Tensor, padded_size: Size, image_size: Size, output_size: Size, threshold: float
) -> Tensor:
    """Resize soft masks, see `ResizedMasks`, and threshold the result.

    Args:
        masks: floating-point [N, h, w], probabilities (or logits, with the threshold of logits).
        padded_size: (height, width) of the network's input.
        image_size: (height, width) of the image in it, without padding.
        output_size: (H, W).
        threshold: a pixel is set if its value is greater.

    Returns:
        bool [N, H, W].

    Raises:
        ValueError: masks are not such, a size is smaller than 1, or the image larger than the
            input.
    """
    _check(masks, padded_size, image_size, output_size)
    return _resize(ResizedMasks(masks, padded_size, image_size, output_size), threshold)[0]


def resize_masks_with_boxes(
    masks: Tensor, padded_size: Size, image_size: Size, output_size: Size, threshold: float
) -> tuple[Tensor, Tensor]:
    """Resize and threshold masks, and compute their boxes; on a GPU in one kernel.

    Args:
        masks: see `resize_masks`.
        padded_size: see `resize_masks`.
        image_size: see `resize_masks`.
        output_size: see `resize_masks`.
        threshold: see `resize_masks`.

    Returns:
        masks: bool [N, H, W].
        boxes: float32 [N, 4], see `mask_boxes`.

    Raises:
        ValueError: see `resize_masks`.
    """
    _check(masks, padded_size, image_size, output_size)
    binary, boxes = _resize(ResizedMasks(masks, padded_size, image_size, output_size), threshold)
    return binary, mask_boxes(binary) if boxes is None else boxes


def _resize(masks: ResizedMasks, threshold: float) -> tuple[Tensor, Tensor | None]:
    """Return thresholded masks, and their boxes where these come with them."""
    given = masks.masks
    sizes = masks.padded_size, masks.image_size, masks.output_size
    if gpu_kernels.runs("resize", given):
        # Not every machine has Triton.
        from .resize_masks_triton import resize_masks_triton

        return resize_masks_triton(given, *sizes, threshold)
    if masks.by_rows and are_mostly_small(given, threshold):
        crops = resized_crops(given, *sizes, threshold, resize_soft_masks)
        return bools_of_crops(crops, len(given), masks.output_size)
    result = torch.empty((len(given), *masks.output_size), dtype=torch.bool, device=given.device)
    if masks.by_rows:
        # A few masks at a time: with more, a block would have few rows. Rounding can't move a value
        # that equals the threshold when that is taken from the masks before.
        for some, part in zip(given.split(MASKS_AT_ONCE), result.split(MASKS_AT_ONCE)):
            shifted = replace(masks, masks=some.float() - threshold)
            for rows, block in shifted.rows().blocks:
                torch.gt(block, 0, out=part[:, rows])
        return result, None
    for part, soft in masks:
        torch.gt(soft, threshold, out=result[part])
    return result, None


def _check(masks: Tensor, padded_size: Size, image_size: Size, output_size: Size) -> None:
    if masks.ndim != 3 or not masks.is_floating_point():
        raise ValueError(
            f"masks must be floating-point [N, h, w], but are {masks.dtype} of the shape "
            f"{tuple(masks.shape)}"
        )
    if min(*masks.shape[1:], *padded_size, *image_size, *output_size) < 1:
        raise ValueError(
            f"masks of {tuple(masks.shape[1:])} can't be resized to the input {padded_size}, its "
            f"part {image_size} and then {output_size}: every side must have a pixel"
        )
    if image_size[0] > padded_size[0] or image_size[1] > padded_size[1]:
        raise ValueError(
            f"an image of {image_size} is not part of a network input of {padded_size}"
        )
