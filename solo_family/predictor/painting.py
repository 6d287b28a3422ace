"""Paint predictions over large pictures, in place: detectron2's visualizer would copy them often.

H W of the picture.
"""

import numpy as np
from detectron2.data import Metadata
from detectron2.utils.colormap import colormap

from ..data.loading.windows import Window
from ..tiling.runs import RunMasks, box_of, fill
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
        kept = {info["id"] for info in infos or []}
        numbers = segments.numpy()
        colours = _colours(int(numbers.max(initial=0)) + 1)
        shown = np.array([number in kept for number in range(len(colours))])
        _paint_map(image, numbers, colours, shown)
    elif "sem_seg" in predictions:
        labels = predictions["sem_seg"].argmax(dim=0).numpy()
        given = metadata.get("stuff_colors")
        count = int(labels.max(initial=0)) + 1
        enough = given and len(given) >= count
        colours = np.array(given)[:, ::-1] if enough else _colours(count)
        _paint_map(image, labels, colours, np.ones(count, bool))
    else:
        _paint_instances(image, predictions)


def _colours(count: int) -> np.ndarray:
    """Return as many colours, BGR, float [count, 3] of 0 to 255; they repeat."""
    table = colormap(rgb=False, maximum=255)
    return table[np.arange(count) % len(table)]


def _paint_map(
    image: np.ndarray, numbers: np.ndarray, colours: np.ndarray, shown: np.ndarray
) -> None:
    """Paint each number's pixels in its colour, some rows at a time."""
    for top in range(0, len(image), _ROWS):
        part, rows = numbers[top : top + _ROWS], image[top : top + _ROWS]
        inside = shown[part]
        rows[inside] = _mixed(rows[inside], colours[part[inside]])


def _paint_instances(image: np.ndarray, predictions: Predictions) -> None:
    """Paint the masks, the best one last, each with an outline in its full colour."""
    instances = predictions["instances"]
    masks = instances.pred_masks
    height = image.shape[0]
    colours = _colours(len(instances))
    for index in reversed(range(len(instances))):
        if isinstance(masks, RunMasks):
            box = box_of(masks.masks[index], height)
            mask = fill(masks.masks[index], box, height)
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
