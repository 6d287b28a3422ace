"""Masks of cells in an image larger than those of the training, near their cells alone. Ours.

A kernel tells its object from the rest of the image that it was trained in. In a larger one the
same features come again further off, and with them the mask would have pixels of other objects.

C cells of all levels, n cells, h w of the masks.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .layout import GridLayout, Size
from .mask_decoder import GridOutputs, MaskDecoder


class LocalMaskDecoder(MaskDecoder[GridOutputs]):
    """Gives another decoder's masks within a window around each cell.

    The window has its cell in the middle. Along an axis of the map that is no longer than the
    window it is all of the map, as in the images of the training.

    Args:
        decoder: gives masks of the whole map.
        centres: float32 [C, 2], y and x of every cell's centre, in pixels of the masks.
        window: height and width, in pixels of the masks.
    """

    def __init__(
        self, decoder: MaskDecoder[Any], centres: Tensor, window: tuple[float, float]
    ) -> None:
        self.decoder = decoder
        self.centres = centres
        self.window = window

    def soft(
        self,
        outputs: Any,
        size: Size,
        cells: Tensor,
        counts: Sequence[int] | None = None,
    ) -> Tensor:
        """Return probabilities, float32 [n, h, w], 0 outside the window."""
        soft = self.decoder.soft(outputs, size, cells, counts)
        # In images of the training's size, and tiles are, nothing is outside.
        if size[0] > self.window[0] or size[1] > self.window[1]:
            for near in self._near(size, cells):
                soft *= near
        return soft

    def traceable(self, outputs: Any, size: Size, cells: Tensor) -> Tensor:
        """Return what `soft` does, by steps that no cell's value changes."""
        rows, columns = self._near(size, cells)
        return self.decoder.traceable(outputs, size, cells) * rows * columns

    def _near(self, size: Size, cells: Tensor) -> tuple[Tensor, Tensor]:
        """Tell which rows, [..., h, 1], and columns, [..., 1, w], are in the window, as 0 or 1."""
        near = []
        for length, centres, side in zip(size, self.centres[cells].unbind(-1), self.window):
            # The first pixel's centre is at 0.5.
            places = torch.arange(length, device=cells.device, dtype=torch.float32) + 0.5
            # A tensor, so that a traced graph follows the size of its input.
            is_longer = places[-1:] + 0.5 > side
            first = torch.where(is_longer, centres - side / 2, 0)[..., None]
            near.append(((places >= first) & (places <= first + side)).float())
        return near[0][..., :, None], near[1][..., None, :]


def decode_locally(
    decoder: MaskDecoder[Any], layout: GridLayout, like: Tensor, padded_size: Size, stride: int
) -> MaskDecoder[Any]:
    """Return a decoder with windows of the reference size; without one, the decoder as it is.

    Args:
        decoder: gives masks of the whole map.
        layout: of the cells.
        like: a tensor on the masks' device.
        padded_size: (height, width) of the network's input.
        stride: of the masks.
    """
    window = layout.span(stride)
    if window is None:
        return decoder
    return LocalMaskDecoder(decoder, layout.centres(like, padded_size, stride), window)
