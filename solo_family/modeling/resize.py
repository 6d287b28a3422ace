"""From masks at the network's resolution to masks of the original image.

N masks, h w of the network's masks, H W of the image that was asked for.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..ops import gpu_kernels
from ..ops.mask_boxes import masks_to_boxes
from ..ops.resize import resize_soft_masks

# Bytes of the float maps that are in memory at a time.
_CHUNK_BYTES = 64 * 2**20
# On a GPU every chunk is some launches more, whatever its size.
_GPU_CHUNKS = 4


@dataclass(frozen=True)
class ResizedMasks:
    """Soft masks of one image in two bilinear steps, as published, a few at a time.

    First to the network's padded input, from which the image is cut out, then to the output. One
    step, or steps on thresholded masks, would give other masks; so would steps on logits where
    probabilities are published.

    Attributes:
        masks: [N, h, w], probabilities or logits.
        padded_size: (height, width) of the network's input.
        image_size: (height, width) of the image in it, without padding.
        output_size: (H, W).
    """

    masks: Tensor
    padded_size: tuple[int, int]
    image_size: tuple[int, int]
    output_size: tuple[int, int]

    def __iter__(self) -> Iterator[tuple[slice, Tensor]]:
        """Yields which masks they are, and these, float32 [n, H, W], free to be overwritten."""
        pixels = sum(side[0] * side[1] for side in (self.padded_size, self.output_size))
        at_once = _CHUNK_BYTES * (_GPU_CHUNKS if self.masks.device.type == "cuda" else 1)
        chunk = max(1, at_once // (4 * pixels))
        for start in range(0, len(self.masks), chunk):
            part = slice(start, min(start + chunk, len(self.masks)))
            sizes = self.padded_size, self.image_size, self.output_size
            yield part, resize_soft_masks(self.masks[part], *sizes)

    def __getitem__(self, chosen: Tensor) -> "ResizedMasks":
        """Returns some of the masks: those of indices int64 [n], or where bool [N] is set."""
        return replace(self, masks=self.masks[chosen])


def resize_masks(
    masks: Tensor,
    padded_size: tuple[int, int],
    image_size: tuple[int, int],
    output_size: tuple[int, int],
    threshold: float,
) -> Tensor:
    """Resizes soft masks, see `ResizedMasks`, and thresholds the result.

    Args:
        masks: floating-point [N, h, w], probabilities (or logits, with the threshold of logits).
        padded_size: (height, width) of the network's input.
        image_size: (height, width) of the image in it, without padding.
        output_size: (H, W).
        threshold: a pixel is set if its value is greater.

    Returns:
        bool [N, H, W].

    Raises:
        ValueError: masks are others, a size is smaller than 1, or the image larger than the input.
    """
    _check(masks, padded_size, image_size, output_size)
    if gpu_kernels.runs("resize", masks):
        return resize_masks_with_boxes(masks, padded_size, image_size, output_size, threshold)[0]
    result = torch.empty((len(masks), *output_size), dtype=torch.bool, device=masks.device)
    for part, soft in ResizedMasks(masks, padded_size, image_size, output_size):
        torch.gt(soft, threshold, out=result[part])
    return result


def resize_masks_with_boxes(
    masks: Tensor,
    padded_size: tuple[int, int],
    image_size: tuple[int, int],
    output_size: tuple[int, int],
    threshold: float,
) -> tuple[Tensor, Tensor]:
    """Resizes and thresholds masks, and finds their boxes; on a GPU in one kernel.

    Args:
        masks, padded_size, image_size, output_size, threshold: see `resize_masks`.

    Returns:
        masks: bool [N, H, W].
        boxes: float32 [N, 4], see `masks_to_boxes`.

    Raises:
        ValueError: see `resize_masks`.
    """
    _check(masks, padded_size, image_size, output_size)
    if gpu_kernels.runs("resize", masks):
        from ..ops.resize_masks_triton import resize_masks_triton

        return resize_masks_triton(masks, padded_size, image_size, output_size, threshold)
    binary = resize_masks(masks, padded_size, image_size, output_size, threshold)
    return binary, masks_to_boxes(binary)


def _check(
    masks: Tensor,
    padded_size: tuple[int, int],
    image_size: tuple[int, int],
    output_size: tuple[int, int],
) -> None:
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
            f"an image of {image_size} is no part of the network's input of {padded_size}"
        )
