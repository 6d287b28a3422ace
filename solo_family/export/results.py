"""Containers of a model's predictions in numpy: masks of the original image, boxes, COCO's RLE.

Shape letters: N instances, h w height and width of the network's masks, H W of the original image.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

import cv2
import numpy as np

from .masks import mask_boxes


@dataclass(frozen=True)
class Sizes:
    """The sizes of one image, each (height, width).

    They are those of the network's padded input, of the image within it, and of the original image.
    """

    padded: tuple[int, int]
    image: tuple[int, int]
    output: tuple[int, int]


@dataclass(frozen=True)
class PredictedInstances:
    """The instances of one image.

    Attributes:
        scores: float32 [N], descending.
        classes: int64 [N].
        masks: bool [N, H, W].
        boxes: float32 [N, 4], tight around the masks, x0 y0 x1 y1 in pixels, x1 and y1 exclusive.
    """

    scores: np.ndarray
    classes: np.ndarray
    masks: np.ndarray
    boxes: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "boxes", mask_boxes(self.masks))

    def __len__(self) -> int:
        return len(self.scores)

    def to_coco(self, image_id: int, category_ids: list[int]) -> list[dict[str, Any]]:
        """Return COCO results: boxes as x, y, w, h; masks as compressed RLE.

        Args:
            image_id: written into each result.
            category_ids: the dataset's category ids, by class.
        """
        return [
            {
                "image_id": image_id,
                "category_id": category_ids[category],
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "score": score,
                "segmentation": encode_rle(mask),
            }
            for score, category, (x0, y0, x1, y1), mask in zip(
                self.scores.tolist(), self.classes.tolist(), self.boxes.tolist(), self.masks
            )
        ]


class Prediction(NamedTuple):
    """The predictions for one image; None for what the model doesn't predict.

    Attributes:
        instances: see `PredictedInstances`.
        sem_seg: float32 [K, H, W], a score for every class and pixel.
        panoptic_seg: int32 [H, W] of segment ids from 1, and 0 for no segment; and for each segment
            its `id`, `category_id` (the class), `isthing` and `score`.
        truncated: there were more candidates than the model considers, so that the weakest are
            missing.
    """

    instances: PredictedInstances | None = None
    sem_seg: np.ndarray | None = None
    panoptic_seg: tuple[np.ndarray, list[dict[str, Any]]] | None = None
    truncated: bool = False


def resized(masks: np.ndarray, sizes: Sizes) -> Iterator[np.ndarray]:
    """Yield each mask resized to the original image, in two bilinear steps.

    A mask is resized to the network's padded input, from which the image is cropped, and then to
    the original size, as published. Pixel centres are at halves, and nothing is smoothed, as with
    torch's `align_corners=False`.

    Args:
        masks: float32 [N, h, w], probabilities or logits.
        sizes: the sizes of the image.
    """
    for mask in masks:
        padded = _resize(mask, sizes.padded)
        yield _resize(padded[: sizes.image[0], : sizes.image[1]], sizes.output)


def _resize(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if mask.shape == size:
        return mask
    return cv2.resize(mask, size[::-1], interpolation=cv2.INTER_LINEAR)


def threshold_masks(masks: np.ndarray, sizes: Sizes, threshold: float) -> np.ndarray:
    """Return bool [N, H, W], true where the resized masks are greater than the threshold."""
    binary = np.empty((len(masks), *sizes.output), bool)
    for index, mask in enumerate(resized(masks, sizes)):
        np.greater(mask, np.float32(threshold), out=binary[index])
    return binary


def encode_rle(mask: np.ndarray) -> dict[str, Any]:
    """Return COCO's compressed run-length encoding of a bool mask [H, W], as pycocotools does.

    Pixels are counted down the columns, in runs of 0, 1, 0, 1, ... From the fourth on, a run is
    written as its difference from the run two before it, in digits of 5 bits, the lowest first; a
    sixth bit marks that another digit follows, and the highest bit of the last digit is the sign.
    """
    pixels = mask.ravel(order="F")
    changes = np.flatnonzero(pixels[1:] != pixels[:-1]) + 1
    edges = [0, *([0] if len(pixels) and pixels[0] else []), *changes.tolist(), len(pixels)]
    runs = [end - start for start, end in pairwise(edges)]
    text = bytearray()
    for index, run in enumerate(runs):
        value = run - runs[index - 2] if index > 2 else run
        more = True
        while more:
            digit = value & 0x1F
            value >>= 5
            more = value != (-1 if digit & 0x10 else 0)
            text.append(48 + digit + 0x20 * more)
    return {"size": [int(side) for side in mask.shape], "counts": text.decode()}
