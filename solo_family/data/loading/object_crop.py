"""Crop large images to windows around objects, before anything is resized.

H W of the image, h w of the window.
"""

from typing import Any

import numpy as np
from detectron2.structures import BoxMode
from fvcore.transforms.transform import CropTransform
from pycocotools import mask as mask_util

from ...ops.window import Window
from ..formats.label_maps import VOID_ID


def pixels_of(size: tuple[int, int]) -> np.ndarray:
    """Return an array of an image's shape, uint8 [H, W, 3], that takes no memory."""
    return np.broadcast_to(np.uint8(0), (*size, 3))


def window_around_object(
    annotations: list[dict[str, Any]], size: tuple[int, int], crop: tuple[int, int]
) -> Window:
    """Draw an object of an image, and a window that has all of it, or as much as fits.

    Args:
        annotations: detectron2's, of which crowds are not drawn; without others the window lies
            anywhere.
        size: (H, W).
        crop: (h, w); an image that is smaller is not cropped along that side.
    """
    objects = [one for one in annotations if not one.get("iscrowd", 0)]
    box = (0.0, 0.0, 0.0, 0.0)
    if objects:
        box = _box(objects[np.random.randint(len(objects))])
    return _window((box[1], box[0]), (box[3], box[2]), size, crop, bool(objects))


def window_around_segment(segments: np.ndarray, crop: tuple[int, int]) -> Window:
    """Draw a segment of an image, a pixel of it, and a window that has this pixel.

    Args:
        segments: ids of segments, int [H, W]; `VOID_ID` is none.
        crop: see `window_around_object`.
    """
    size = (segments.shape[0], segments.shape[1])
    ids = np.unique(segments)
    ids = ids[ids != VOID_ID]
    if not len(ids):
        return _window((0, 0), (0, 0), size, crop, False)
    places = np.flatnonzero(segments == ids[np.random.randint(len(ids))])
    row, column = divmod(int(places[np.random.randint(len(places))]), size[1])
    return _window((row, column), (row + 1, column + 1), size, crop, True)


def _window(
    start: tuple[float, float],
    stop: tuple[float, float],
    size: tuple[int, int],
    crop: tuple[int, int],
    has_object: bool,
) -> Window:
    """Draw a window around what lies from `start` to `stop`, each a row and a column."""
    spans = []
    for begin, end, length, wanted in zip(start, stop, size, crop):
        side = min(wanted, length)
        first, last = 0, length - side
        if has_object:
            # Of the two, in this order where the object fits, else in the other.
            inner = sorted((int(np.ceil(end)) - side, int(begin)))
            first, last = (min(max(bound, first), last) for bound in inner)
        spans.append((place := np.random.randint(first, last + 1), place + side))
    (top, bottom), (left, right) = spans
    return Window(int(top), int(left), int(bottom), int(right))


def crop_annotations(
    annotations: list[dict[str, Any]], window: Window, size: tuple[int, int]
) -> list[dict[str, Any]]:
    """Return what of an image's annotations lies in a window, in the window's pixels.

    Objects that the window cuts keep the part that is in it; the others are left out.

    Args:
        annotations: detectron2's, with polygons or compressed RLE.
        window: the part of the image.
        size: (H, W).
    """
    height, width = window.size
    transform = CropTransform(window.left, window.top, width, height, size[1], size[0])
    kept = []
    for one in annotations:
        x0, y0, x1, y1 = _box(one)
        outside = x1 <= window.left or x0 >= window.right
        if outside or y1 <= window.top or y0 >= window.bottom:
            continue
        segmentation = _cropped(one["segmentation"], transform, window)
        if segmentation is not None:
            box = transform.apply_box(np.array([_given_box(one)]))[0]
            box = box.clip(0, [width, height, width, height])
            place = {"bbox": box.tolist(), "bbox_mode": BoxMode.XYXY_ABS}
            kept.append({**one, **place, "segmentation": segmentation})
    return kept


def _cropped(segmentation: Any, transform: CropTransform, window: Window) -> Any:
    if isinstance(segmentation, dict):
        mask = mask_util.decode(segmentation)
        part = mask[window.top : window.bottom, window.left : window.right]
        return mask_util.encode(np.asfortranarray(part)) if part.any() else None
    polygons = [np.asarray(polygon, float).reshape(-1, 2) for polygon in segmentation]
    cropped = [part.reshape(-1).tolist() for part in transform.apply_polygons(polygons)]
    return [polygon for polygon in cropped if len(polygon) >= 6] or None


def _box(annotation: dict[str, Any]) -> tuple[float, float, float, float]:
    """Return x0, y0, x1, y1 of an annotation's mask, which its `bbox` may not fit."""
    segmentation = annotation["segmentation"]
    if isinstance(segmentation, dict):
        x, y, width, height = (float(value) for value in mask_util.toBbox(segmentation))
        return x, y, x + width, y + height
    points = np.concatenate([np.asarray(part, float).reshape(-1, 2) for part in segmentation])
    (x0, y0), (x1, y1) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    return x0, y0, x1, y1


def _given_box(annotation: dict[str, Any]) -> list[float]:
    box = BoxMode.convert(list(annotation["bbox"]), annotation["bbox_mode"], BoxMode.XYXY_ABS)
    return [float(value) for value in box]
