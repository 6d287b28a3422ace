"""Masks of an image's annotations after its augmentation, computed only where the objects are.

An object covers a small part of most images. So its mask is decoded, moved and looked at only
between the first and the last of its columns, and written into memory that is zero without having
been touched. The pixels are those that detectron2's functions give.

H W of the augmented image, h w of the part of it that an object covers, G objects.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from detectron2.data import transforms as T
from detectron2.projects.point_rend import ColorAugSSDTransform
from detectron2.structures import BitMasks
from fvcore.transforms import transform as fvcore_transforms
from PIL import Image
from pycocotools import mask as mask_util

from ...ops.rle import some_columns

# They change colours alone.
_COLOURS = (fvcore_transforms.NoOpTransform, fvcore_transforms.BlendTransform, ColorAugSSDTransform)
_NOWHERE = -1


class Part(NamedTuple):
    """Where an object can have pixels, and its mask there.

    Attributes:
        top, left: the first row and column of the part, in the augmented image.
        mask: uint8 [h, w], 0 or 1; it may be empty.
    """

    top: int
    left: int
    mask: np.ndarray

    def box(self) -> tuple[int, int, int, int]:
        """Return x0, y0, x1, y1 of the pixels, the ends exclusive; zeros if there are none."""
        rows, columns = (np.flatnonzero(self.mask.any(axis)) for axis in (1, 0))
        if not len(rows):
            return (0, 0, 0, 0)
        xs, ys = columns[[0, -1]] + self.left, rows[[0, -1]] + self.top
        return (int(xs[0]), int(ys[0]), int(xs[1]) + 1, int(ys[1]) + 1)


class IndexMaps(NamedTuple):
    """An augmentation of labels, of which each row and each column is one of the image's.

    Attributes:
        rows: int64 [H], for each row of the augmented image that of the image; -1 where it pads.
        columns: int64 [W], likewise.
    """

    rows: np.ndarray
    columns: np.ndarray


def moved_parts(
    segmentations: Iterable[Any], transforms: T.TransformList, size: tuple[int, int]
) -> list[Part]:
    """Return the masks of objects after an augmentation.

    Args:
        segmentations: detectron2's: for each object a list of polygons, or compressed RLE.
        transforms: what was done to the image.
        size: (H, W).
    """
    parts = []
    for segmentation in segmentations:
        if isinstance(segmentation, dict):
            parts.append(_moved(segmentation, transforms, size))
        else:
            polygons = [np.asarray(polygon).reshape(-1, 2) for polygon in segmentation]
            moved = [polygon.reshape(-1) for polygon in transforms.apply_polygons(polygons)]
            parts.append(_of_polygons(moved, size))
    return parts


def drawn(parts: Sequence[Part], size: tuple[int, int]) -> BitMasks:
    """Return the masks of objects, bool [G, H, W].

    Args:
        parts: of the G objects.
        size: (H, W).
    """
    # numpy gets zeros from the system as it needs them; torch would write each.
    masks = np.zeros((len(parts), *size), np.uint8)
    for mask, part in zip(masks, parts):
        height, width = part.mask.shape
        mask[part.top : part.top + height, part.left : part.left + width] = part.mask
    return BitMasks(torch.from_numpy(masks).view(torch.bool))


def boxes_of(parts: Sequence[Part]) -> torch.Tensor:
    """Return the boxes of masks as `BitMasks.get_bounding_boxes` does, float32 [G, 4]."""
    return torch.tensor([part.box() for part in parts], dtype=torch.float32).reshape(-1, 4)


def _of_polygons(polygons: list[np.ndarray], size: tuple[int, int]) -> Part:
    if not polygons:  # a crop has left none
        return _nothing()
    rle = mask_util.merge(mask_util.frPyObjects(polygons, *size))
    return _decoded(rle)


def _decoded(rle: dict[str, Any]) -> Part:
    """Return an RLE's mask between the first and the last of its rows and columns."""
    left, top, width, height = (int(side) for side in mask_util.toBbox(rle))
    if not (width and height):
        return _nothing()
    height_of_image, width_of_image = rle["size"]
    try:
        if left + width > width_of_image or top + height > height_of_image:
            raise ValueError("a box that is none")
        # pycocotools decodes column after column.
        columns = mask_util.decode(some_columns(rle, left, left + width)).T
    except ValueError:
        # A tool wrote runs of no length, which are no pixels, and may be first, last, or anywhere.
        return Part(0, 0, np.ascontiguousarray(mask_util.decode(rle)))
    # OpenCV turns it over several times as fast as numpy.
    return Part(top, left, cv2.transpose(columns[:, top : top + height]))


def _nothing() -> Part:
    return Part(0, 0, np.zeros((0, 0), np.uint8))


def _moved(rle: dict[str, Any], transforms: T.TransformList, size: tuple[int, int]) -> Part:
    given = (int(rle["size"][0]), int(rle["size"][1]))
    maps = index_maps(transforms, given)
    if maps is None:
        mask = transforms.apply_segmentation(mask_util.decode(rle))
        assert mask.shape == size
        return Part(0, 0, mask)
    assert (len(maps.rows), len(maps.columns)) == size
    part = _decoded(rle)
    rows, top = _taken(maps.rows, part.top, part.mask.shape[0])
    columns, left = _taken(maps.columns, part.left, part.mask.shape[1])
    return Part(top, left, part.mask[rows][:, columns])


def _taken(index: np.ndarray, start: int, length: int) -> tuple[np.ndarray, int]:
    """Return which of the rows from `start` on are where in the augmented image.

    Args:
        index: see `IndexMaps`.
        start: the first row of a part of the image.
        length: how many rows the part has.

    Returns:
        The rows of the part, from 0, that consecutive rows of the augmented image have, and the
        first of these.
    """
    places = np.flatnonzero((index >= start) & (index < start + length))
    if not len(places):
        return places, 0
    # Resizing and flipping keep the order of rows, or turn it over, so that no other is between.
    return index[places] - start, int(places[0])


def index_maps(transforms: T.TransformList, size: tuple[int, int]) -> IndexMaps | None:
    """Return an augmentation of labels as indices.

    Args:
        transforms: what was done to the image.
        size: height and width of the image.

    Returns:
        The indices; None if a transform is of a kind that moves other than rows and columns, or
        that this function does not know.
    """
    rows, columns = np.arange(size[0]), np.arange(size[1])
    for one in _flat(transforms):
        kind = type(one)
        if kind in _COLOURS:
            continue
        if kind is fvcore_transforms.HFlipTransform:
            columns = columns[::-1]
        elif kind is fvcore_transforms.VFlipTransform:
            rows = rows[::-1]
        elif kind is fvcore_transforms.CropTransform:
            rows, columns = rows[one.y0 : one.y0 + one.h], columns[one.x0 : one.x0 + one.w]
        elif isinstance(one, fvcore_transforms.PadTransform) and one.seg_pad_value == 0:
            rows = np.pad(rows, (one.y0, one.y1), constant_values=_NOWHERE)
            columns = np.pad(columns, (one.x0, one.x1), constant_values=_NOWHERE)
        elif isinstance(one, T.ResizeTransform) and (one.h, one.w) == (len(rows), len(columns)):
            rows, columns = rows[_nearest(one.h, one.new_h)], columns[_nearest(one.w, one.new_w)]
        else:
            return None
    return IndexMaps(rows, columns)


def _flat(transforms: Any) -> Iterable[Any]:
    if not isinstance(transforms, fvcore_transforms.TransformList):
        yield transforms
        return
    for one in transforms.transforms:
        yield from _flat(one)


@lru_cache(maxsize=4096)
def _nearest(length: int, new_length: int) -> np.ndarray:
    """Return for each pixel of a resized line the pixel that Pillow takes its label from."""
    line = Image.fromarray(np.arange(length, dtype=np.int32)[None])
    return np.asarray(line.resize((new_length, 1), Image.Resampling.NEAREST))[0].astype(np.int64)
