"""Decoding JPEG files at a fraction of their size, where training resizes them to less than half.

A JPEG's blocks of 8 x 8 pixels can be decoded to 4 x 4, 2 x 2 or 1 pixels in a part of the time.
The pixels are others than those of the whole image resized, and the long edge may be one pixel
longer or shorter, so that this is a switch: `INPUT.REDUCED_JPEG`.

H W of the file's image, h w of the decoded one.
"""

from typing import Any, NamedTuple

from detectron2.config import CfgNode
from detectron2.data import transforms as T

_FRACTIONS = (8, 4, 2, 1)


class Target(NamedTuple):
    """The largest size that images are resized to, as detectron2's `ResizeShortestEdge` has it.

    Attributes:
        short: of the short edge, in pixels.
        long: the greatest length of the long edge.
    """

    short: int
    long: int

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "Target | None":
        """Return that of `INPUT`; None if images are decoded whole."""
        edges = cfg.INPUT.MIN_SIZE_TRAIN
        # 0 leaves an image as large as it is.
        if not cfg.INPUT.REDUCED_JPEG or not min(edges):
            return None
        return cls(max(edges), cfg.INPUT.MAX_SIZE_TRAIN)

    def fraction(self, size: tuple[int, int]) -> int:
        """Return the greatest of 8, 4, 2 and 1 by which both sides may be divided.

        What is decoded so is at least as large as what it is resized to.

        Args:
            size: (H, W).
        """
        factor = min(self.short / min(size), self.long / max(size))
        return next(one for one in _FRACTIONS if one == 1 or one * factor <= 1)

    def draft(self, image: Any) -> None:
        """Tell a Pillow image of a JPEG file, not decoded yet, at which size to decode."""
        if image.format == "JPEG":
            fraction = self.fraction((image.height, image.width))
            image.draft(None, (image.width // fraction, image.height // fraction))


def reduced_size(size: tuple[int, int], fraction: int) -> tuple[int, int]:
    """Return (h, w) of an image of (H, W) whose sides are divided."""
    return -(-size[0] // fraction), -(-size[1] // fraction)


def is_reduced(size: tuple[int, int], decoded: tuple[int, int]) -> bool:
    """Return whether an image of (H, W) may have been decoded to (h, w)."""
    return any(reduced_size(size, fraction) == decoded for fraction in _FRACTIONS)


def from_original(
    transforms: T.TransformList, size: tuple[int, int], decoded: tuple[int, int]
) -> T.TransformList:
    """Return what moves annotations of a file's image as the decoded image was moved.

    Args:
        transforms: what was done to the decoded image, a resize before all that moves pixels.
        size: (H, W).
        decoded: (h, w).
    """
    if size == decoded:
        return transforms
    moved = list(transforms.transforms)
    for place, one in enumerate(moved):
        if isinstance(one, T.ResizeTransform):
            moved[place] = T.ResizeTransform(*size, one.new_h, one.new_w, one.interp)
            return T.TransformList(moved)
    return T.TransformList([T.ResizeTransform(*size, *decoded), *moved])
