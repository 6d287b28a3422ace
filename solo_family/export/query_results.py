"""Compute the results of models that classify masks, in numpy (MaskFormer, arXiv 2107.06278, 3.4).

Masks are resized as logits, one by one, so that they are never all in memory at once.

N masks, K classes, h w of the network's masks, H W of the picture.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..class_maps import Read, class_maps_read
from .panoptic import assign_pixels, merge_panoptic
from .results import PredictedInstances, Prediction, Sizes, resized

# Masks, and pixels, of one product of matrices.
_MASKS, _PIXELS = 32, 4096


def query_results(
    probabilities: np.ndarray,
    logits: np.ndarray,
    sizes: Sizes,
    thresholds: dict[str, float],
    settings: dict[str, Any],
) -> Prediction:
    """Compute the results that the model was configured for, but for `without_class_maps`.

    Args:
        probabilities: float32 [N, K + 1] of the classes, "no object" last.
        logits: the logits of the masks, float32 [N, h, w].
        sizes: the sizes of the image.
        thresholds: `object` and `overlap`, for panoptic results the lowest probability of a mask's
            class and the lowest share of its pixels that must remain; `keep`, for instances the
            lowest score.
        settings: those of `methods.mask_former.inference.Inference`.
    """
    instances = sem_seg = panoptic_seg = None
    if settings["semantic"] and not (settings["panoptic"] and class_maps_read() is Read.NEVER):
        sem_seg = _semantic(probabilities, logits, sizes, settings)
    if settings["panoptic"]:
        panoptic_seg = _panoptic(
            probabilities, logits, sizes, thresholds, settings["stuff_classes"]
        )
    if settings["instance"]:
        instances = _instances(probabilities, logits, sizes, thresholds["keep"], settings)
    return Prediction(instances, sem_seg, panoptic_seg)


def _semantic(
    probabilities: np.ndarray, logits: np.ndarray, sizes: Sizes, settings: dict[str, Any]
) -> np.ndarray:
    segment = _assign_hard if settings["hard_assignment"] else _marginalise
    if settings["resize_first"]:
        return segment(probabilities, logits, sizes)
    unresized = Sizes(sizes.padded, sizes.image, sizes.image)
    scores = segment(probabilities, logits, unresized)
    return np.stack(list(resized(scores, Sizes(sizes.image, sizes.image, sizes.output))))


def _marginalise(probabilities: np.ndarray, logits: np.ndarray, sizes: Sizes) -> np.ndarray:
    """Return the sum over masks i of p_i(c) m_i for every class and pixel, float32 [K, H, W]."""
    classes = probabilities[:, :-1].T
    pixels = sizes.output[0] * sizes.output[1]
    result = np.zeros((len(classes), pixels), np.float32)
    # Products of matrices, of a few masks and pixels at a time: memory has no room for all masks,
    # and the cache none for all pixels.
    part = np.empty((min(_MASKS, len(logits)), pixels), np.float32)
    for first in range(0, len(logits), _MASKS):
        weights = np.ascontiguousarray(classes[:, first : first + _MASKS])
        for mask, row in zip(_soft_masks(logits[first : first + _MASKS], sizes), part):
            row[:] = mask.ravel()
        for start in range(0, pixels, _PIXELS):
            columns = slice(start, start + _PIXELS)
            result[:, columns] += weights @ part[: weights.shape[1], columns]
    return result.reshape(-1, *sizes.output)


def _assign_hard(probabilities: np.ndarray, logits: np.ndarray, sizes: Sizes) -> np.ndarray:
    """Assign each pixel to one mask, whose class the pixel gets: float32 [K, H, W]."""
    num_classes = probabilities.shape[1] - 1
    classes, scores = probabilities.argmax(1), probabilities.max(1)
    scores = np.where(classes < num_classes, scores, 0)
    index, value, _ = assign_pixels(_soft_masks(logits, sizes), scores, sizes.output)
    label = classes.clip(max=num_classes - 1)[index]
    return np.where(np.arange(num_classes)[:, None, None] == label, value, np.float32(0))


def _panoptic(
    probabilities: np.ndarray,
    logits: np.ndarray,
    sizes: Sizes,
    thresholds: dict[str, float],
    stuff_classes: Sequence[int],
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    classes, scores = probabilities.argmax(1), probabilities.max(1)
    is_object = classes < probabilities.shape[1] - 1
    chosen = np.flatnonzero(is_object & (scores > np.float32(thresholds["object"])))
    return merge_panoptic(
        _soft_masks(logits[chosen], sizes),
        scores[chosen],
        classes[chosen],
        sizes.output,
        stuff_classes=stuff_classes,
        overlap_threshold=thresholds["overlap"],
    )


def _instances(
    probabilities: np.ndarray,
    logits: np.ndarray,
    sizes: Sizes,
    threshold: float,
    settings: dict[str, Any],
) -> PredictedInstances:
    """Return the best pairs of mask and class; a score includes the mask's mean probability."""
    scores = probabilities[:, :-1].copy()
    scores[:, settings["stuff_classes"]] = -1
    order = np.argsort(-scores, axis=None, kind="stable")[: settings["max_instances"]]
    order = order[scores.flat[order] >= 0]
    masks_of, classes = np.divmod(order, scores.shape[1])
    quality = np.zeros(len(logits), np.float32)
    binary = np.zeros((len(logits), *sizes.output), bool)
    used = np.unique(masks_of)
    for number, mask in zip(used, resized(logits[used], sizes)):
        np.greater(mask, 0, out=binary[number])
        inside = mask[binary[number]]
        quality[number] = _sigmoid(inside).mean() if len(inside) else 0
    final = (scores.flat[order] * quality[masks_of]).astype(np.float32)
    best = np.argsort(-final, kind="stable")
    best = best[final[best] > threshold]
    return PredictedInstances(final[best], classes[best], binary[masks_of[best]])


def _soft_masks(logits: np.ndarray, sizes: Sizes) -> Iterator[np.ndarray]:
    """Yield probability maps: the logits are resized before the sigmoid is applied."""
    return (_sigmoid(mask) for mask in resized(logits, sizes))


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    values = np.negative(logits)
    # Where the exponential is too large for float32, the probability is 0, as it should be.
    with np.errstate(over="ignore"):
        np.exp(values, out=values)
    values += 1
    return np.reciprocal(values, out=values)
