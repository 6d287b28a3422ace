"""Resize an image to the scales of InstanceFCN (arXiv 1603.08678, "Inference").

C channels, H W of an image.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from detectron2.data.transforms import ResizeShortestEdge
from torch import Tensor


def scaled_sizes(
    height: int, width: int, short_edges: Sequence[int], max_size: int
) -> list[tuple[int, int]]:
    """Return the height and width of an image at every scale, at least a pixel each.

    Args:
        height: the height of the image.
        width: the width of the image.
        short_edges: the short edges of the scales.
        max_size: limit of the long edge.
    """
    shapes = (
        ResizeShortestEdge.get_output_shape(height, width, edge, max_size) for edge in short_edges
    )
    return [(max(1, new_height), max(1, new_width)) for new_height, new_width in shapes]


def resize_to_scale(image: Tensor, size: tuple[int, int], divisibility: int) -> Tensor:
    """Resize a normalised image bilinearly, smoothed where it shrinks, as the data loader does.

    Args:
        image: [1, C, H, W].
        size: height and width of the scale.
        divisibility: the result is padded with 0, right and below, to multiples of this.
    """
    resized = F.interpolate(image, size, mode="bilinear", antialias=True)
    bottom, right = (-side % divisibility for side in size)
    return F.pad(resized, (0, right, 0, bottom))
