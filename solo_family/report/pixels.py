"""What the pixels and segments of images add up to.

I images, K classes.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ..evaluation.panoptic_quality import PanopticQuality
from .average_precision import mean
from .label_images import LabelImage


@dataclass(frozen=True)
class Counted:
    """The sums of all images, and those of each.

    Attributes:
        files: the I images.
        confusion: int64 [K, K + 1], pixels by true class (rows) and predicted one; the last column
            is for pixels that were given no class.
        pixels: int64 [I, 3, K]: of each class the pixels that are right, true, and predicted.
        quality: float64 [I, 4, K]: the IoU of matched segments, and the numbers of matched
            segments, of wrong ones and of missed ones.
    """

    files: list[str]
    confusion: np.ndarray
    pixels: np.ndarray
    quality: np.ndarray


def count(images: Iterable[LabelImage], num_classes: int) -> Counted:
    """Count the pixels and the segments of images of K classes."""
    confusion = np.zeros((num_classes, num_classes + 1), np.int64)
    files, pixels, qualities = [], [], []
    for image in images:
        own = confusion_of_pixels(image.truth, image.predicted, num_classes)
        confusion += own
        files.append(image.file_name)
        square = own[:, :num_classes]
        pixels.append(np.stack([square.diagonal(), own.sum(1), square.sum(0)]))
        quality = PanopticQuality(num_classes)
        quality.add(
            image.truth_ids,
            image.truth_segments,
            image.predicted_ids,
            image.predicted_segments,
        )
        qualities.append(np.stack([quality.iou, quality.tp, quality.fp, quality.fn]))
    empty = (0, 3, num_classes), (0, 4, num_classes)
    return Counted(
        files,
        confusion,
        np.stack(pixels) if pixels else np.zeros(empty[0], np.int64),
        np.stack(qualities) if qualities else np.zeros(empty[1]),
    )


def confusion_of_pixels(truth: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """Count an image's pixels by true and predicted class, int64 [K, K + 1].

    Pixels whose truth has no class don't count.
    """
    known = truth < num_classes
    pairs = truth[known].astype(np.int64) * (num_classes + 1) + predicted[known]
    counts = np.bincount(pairs, minlength=num_classes * (num_classes + 1))
    return counts.reshape(num_classes, num_classes + 1)


def class_ious(pixels: np.ndarray) -> np.ndarray:
    """Return the IoU of each class, float64 [K], 0 to 1; NaN for classes that don't occur.

    Args:
        pixels: [3, K], as those of `Counted`.
    """
    right, true, predicted = pixels.astype(np.float64)
    union = true + predicted - right
    return np.where(true > 0, right / np.maximum(1, union), np.nan)


def class_qualities(quality: np.ndarray) -> np.ndarray:
    """Return PQ, SQ and RQ of each class, float64 [3, K], 0 to 1; NaN where it doesn't occur.

    Args:
        quality: [4, K], as those of `Counted`.
    """
    iou, found, wrong, missed = quality
    size = found + (wrong + missed) / 2
    parts = np.stack(
        [iou / np.maximum(0.5, size), iou / np.maximum(1, found), found / np.maximum(0.5, size)]
    )
    return np.where(size > 0, parts, np.nan)


def image_scores(counted: Counted, panoptic: bool) -> np.ndarray:
    """Return PQ or mIoU of each image, float64 [I], 0 to 1; NaN where nothing counts."""
    if panoptic:
        return np.array([mean(class_qualities(quality)[0]) for quality in counted.quality])
    return np.array([mean(class_ious(pixels)) for pixels in counted.pixels])
