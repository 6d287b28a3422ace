"""Which class is taken for which: of objects, at a confidence threshold.

K categories, n predictions and g ground-truth masks of an image.
"""

from collections import defaultdict
from typing import Any

import numpy as np
from pycocotools import mask as mask_util
from pycocotools.coco import COCO

from ..evaluation.coco_results import Result
from .matches import Matches

_SAME_OBJECT = 0.5


def confusion_of_objects(
    truth: COCO, results: list[Result], matches: Matches, threshold: float
) -> np.ndarray:
    """Count which class the objects of each class are taken for.

    A prediction is of the object with which its mask has the highest IoU, whatever their classes,
    if that is 0.5 or more; each has at most one. Crowds, and what COCO doesn't count, are left out.

    Args:
        truth: the ground truth.
        results: the predictions.
        matches: of their evaluation.
        threshold: the lowest score of a prediction that counts.

    Returns:
        int64 [K + 1, K + 1]: rows are the true classes, columns the predicted ones. The last row is
        for predictions where there is no object, the last column for objects that are missed.
    """
    place = {identity: index for index, identity in enumerate(matches.category_ids)}
    matrix = np.zeros((len(place) + 1, len(place) + 1), np.int64)
    kept: dict[int, list[int]] = defaultdict(list)
    for number in np.flatnonzero((matches.scores >= threshold) & ~matches.ignored[0]).tolist():
        kept[int(matches.images[number])].append(int(matches.indices[number]))
    for index, image in enumerate(matches.image_ids):
        annotations = [one for one in truth.imgToAnns[image] if not one["iscrowd"]]
        predictions = [results[number] for number in kept[index]]
        pairs = _pairs(predictions, annotations)
        for prediction, annotation in pairs:
            row = place[annotations[annotation]["category_id"]]
            matrix[row, place[predictions[prediction]["category_id"]]] += 1
        for number in set(range(len(predictions))) - {pair[0] for pair in pairs}:
            matrix[-1, place[predictions[number]["category_id"]]] += 1
        for number in set(range(len(annotations))) - {pair[1] for pair in pairs}:
            matrix[place[annotations[number]["category_id"]], -1] += 1
    return matrix


def _pairs(predictions: list[Result], annotations: list[dict[str, Any]]) -> list[tuple[int, int]]:
    """Return which prediction is of which annotation, the pairs with the highest IoU first."""
    if not predictions or not annotations:
        return []
    ious = mask_util.iou(  # float64 [n, g]
        [prediction["segmentation"] for prediction in predictions],
        [annotation["segmentation"] for annotation in annotations],
        [0] * len(annotations),
    )
    pairs: list[tuple[int, int]] = []
    rows, columns = np.nonzero(ious >= _SAME_OBJECT)
    free_rows, free_columns = set(rows.tolist()), set(columns.tolist())
    for place in np.argsort(-ious[rows, columns], kind="stable").tolist():
        row, column = int(rows[place]), int(columns[place])
        if row in free_rows and column in free_columns:
            pairs.append((row, column))
            free_rows.remove(row)
            free_columns.remove(column)
    return pairs
