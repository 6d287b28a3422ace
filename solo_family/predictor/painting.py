"""Paint predictions over large pictures, in place: detectron2's visualizer would copy them often.

H W of the picture.
"""

import numpy as np
from detectron2.data import Metadata

from ..modeling.class_colours import colour_table
from ..ops.label_maps import class_of_pixels
from ..ops.run_masks import RunMasks
from ..ops.runs import box_of, fill
from ..ops.window import Window
from .predictions import Predictions

# Pictures of more pixels are painted.
LARGE_PIXELS = 2**24
# The share of a pixel's colour that a mask's takes.
_OPACITY = 0.5
_ROWS = 256


def is_large(image: np.ndarray, predictions: Predictions) -> bool:
    """Return whether a picture, or what was predicted of it, is too large for detectron2's way."""
    if image.shape[0] * image.shape[1] > LARGE_PIXELS:
        return True
    instances = predictions.get("instances")
    return instances is not None and isinstance(instances.pred_masks, RunMasks)


def paint(image: np.ndarray, predictions: Predictions, metadata: Metadata) -> None:
    """Paint the most complete prediction over a picture: panoptic, else semantic, else instances.

    Neighbouring objects get different colours. No names are written.

    Args:
        image: uint8 [H, W, 3], BGR, which is changed.
        predictions: result of `keep_confident`.
        metadata: the colours of classes.
    """
    if "panoptic_seg" in predictions:
        segments, infos = predictions["panoptic_seg"]
        colours = colours_of(predictions, metadata)
        kept = {info["id"] for info in infos or []}
        shown = np.array([number in kept for number in range(len(colours))])
        _paint_map(image, segments.numpy(), colours, shown)
    elif "sem_seg" in predictions:
        labels = class_of_pixels(predictions["sem_seg"]).numpy()
        colours = _colours_of_classes(labels, metadata)
        _paint_map(image, labels, colours, np.arange(len(colours)) < _named(metadata))
    else:
        _paint_instances(image, predictions, colours_of(predictions, metadata))


def colours_of(predictions: Predictions, metadata: Metadata) -> np.ndarray:
    """Return the colours with which `paint` paints a prediction.

    Args:
        predictions: see `paint`.
        metadata: see `paint`.

    Returns:
        float [C, 3], BGR, 0 to 255: by the numbers of panoptic segments, else by the classes of a
            semantic segmentation, else by the places of instances.
    """
    if "panoptic_seg" in predictions:
        return colour_table(int(predictions["panoptic_seg"][0].numpy().max(initial=0)) + 1)
    if "sem_seg" in predictions:
        return _colours_of_classes(class_of_pixels(predictions["sem_seg"]).numpy(), metadata)
    return colour_table(len(predictions["instances"]))


def _colours_of_classes(labels: np.ndarray, metadata: Metadata) -> np.ndarray:
    """Return the colours of the classes of pixels: the dataset's where it has them for all."""
    colours = colour_table(int(labels.max(initial=0)) + 1)
    given = metadata.get("stuff_colors") or []
    count = int(min(len(colours), _named(metadata)))
    if len(given) >= count:
        colours[:count] = np.array(given)[:count, ::-1]
    return colours


def _named(metadata: Metadata) -> float:
    """Return the number of classes that have names; from there on are those that are not kept."""
    return len(metadata.get("stuff_classes") or []) or float("inf")


def _paint_map(
    image: np.ndarray, numbers: np.ndarray, colours: np.ndarray, shown: np.ndarray
) -> None:
    """Paint each number's pixels in its colour, some rows at a time."""
    for top in range(0, len(image), _ROWS):
        part, rows = numbers[top : top + _ROWS], image[top : top + _ROWS]
        inside = shown[part]
        rows[inside] = _mixed(rows[inside], colours[part[inside]])


def _paint_instances(image: np.ndarray, predictions: Predictions, colours: np.ndarray) -> None:
    """Paint the masks, the best one last, each with an outline in its full colour."""
    instances = predictions["instances"]
    masks = instances.pred_masks
    height = image.shape[0]
    for index in reversed(range(len(instances))):
        if isinstance(masks, RunMasks):
            box = box_of(masks.masks[index], height)
            # By rows, as the picture is; runs go down columns.
            mask = np.ascontiguousarray(fill(masks.masks[index], box, height))
        else:
            left, top, right, bottom = instances.pred_boxes.tensor[index].int().tolist()
            box = Window(top, left, bottom, right)
            mask = masks[index, top:bottom, left:right].numpy()
        pixels = image[box.top : box.bottom, box.left : box.right]
        for top in range(0, len(mask), _ROWS):
            rows, inside = pixels[top : top + _ROWS], mask[top : top + _ROWS]
            rows[inside] = _mixed(rows[inside], colours[index])
        pixels[_outline(mask)] = colours[index]


def _mixed(pixels: np.ndarray, colours: np.ndarray) -> np.ndarray:
    return ((1 - _OPACITY) * pixels + _OPACITY * colours).round().astype(np.uint8)


def _outline(mask: np.ndarray) -> np.ndarray:
    """Return the pixels of a mask of which a neighbour is not in it."""
    padded = np.pad(mask, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inner
