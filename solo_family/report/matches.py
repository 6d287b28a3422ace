"""Which predictions match which ground truth, flattened from pycocotools' evaluation.

N predictions, I images, K categories, T thresholds of IoU, D predictions of a category.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools.cocoeval import COCOeval


@dataclass(frozen=True)
class Matches:
    """An evaluation of masks of all sizes.

    Attributes:
        image_ids: the I ids, in COCO's order.
        category_ids: the K ids, in COCO's order.
        iou_thresholds: float64 [T].
        recalls: float64 [R], at which COCO samples precision.
        images: int64 [N], the index of each prediction's image; likewise `categories`.
        categories: int64 [N].
        indices: int64 [N], the index of each prediction in the results that were evaluated.
        scores: float64 [N].
        truth_ids: int64 [T, N], the id of the annotation that each has found; 0 for none.
        ignored: bool [T, N], predictions that count neither as right nor as wrong.
        truths: int64 [I, K], how much ground truth counts.
    """

    image_ids: list[Any]
    category_ids: list[Any]
    iou_thresholds: np.ndarray
    recalls: np.ndarray
    images: np.ndarray
    categories: np.ndarray
    indices: np.ndarray
    scores: np.ndarray
    truth_ids: np.ndarray
    ignored: np.ndarray
    truths: np.ndarray

    @property
    def right(self) -> np.ndarray:
        """Bool [T, N]: predictions that have found an object that counts."""
        return (self.truth_ids > 0) & ~self.ignored

    @property
    def wrong(self) -> np.ndarray:
        """Bool [T, N]: predictions that count as wrong."""
        return (self.truth_ids == 0) & ~self.ignored


def matches_of(evaluation: COCOeval) -> Matches:
    """Return the matches of an evaluation; see `evaluation.coco_results.evaluate`."""
    params = evaluation.params
    image_at = {identity: index for index, identity in enumerate(params.imgIds)}
    category_at = {identity: index for index, identity in enumerate(params.catIds)}
    everything = params.areaRng[params.areaRngLbl.index("all")]
    truths = np.zeros((len(image_at), len(category_at)), np.int64)
    thresholds = len(params.iouThrs)
    parts: list[tuple[np.ndarray, ...]] = []
    for found in evaluation.evalImgs:
        if found is None or found["aRng"] != everything:
            continue
        image, category = image_at[found["image_id"]], category_at[found["category_id"]]
        truths[image, category] = np.count_nonzero(np.asarray(found["gtIgnore"]) == 0)
        ids = np.asarray(found["dtIds"], np.int64)
        parts.append(
            (
                np.full(len(ids), image),
                np.full(len(ids), category),
                ids - 1,
                np.asarray(found["dtScores"], np.float64),
                np.asarray(found["dtMatches"], np.int64).reshape(thresholds, -1),
                np.asarray(found["dtIgnore"], bool).reshape(thresholds, -1),
            )
        )
    empty = (*(np.zeros(0, np.int64),) * 3, np.zeros(0), *(np.zeros((thresholds, 0)),) * 2)
    images, categories, indices, scores, ids, ignored = (
        np.concatenate([part[place] for part in [empty, *parts]], axis=-1) for place in range(6)
    )
    return Matches(
        image_ids=list(params.imgIds),
        category_ids=list(params.catIds),
        iou_thresholds=np.asarray(params.iouThrs),
        recalls=np.asarray(params.recThrs),
        images=images.astype(np.int64),
        categories=categories.astype(np.int64),
        indices=indices.astype(np.int64),
        scores=scores,
        truth_ids=ids.astype(np.int64),
        ignored=ignored.astype(bool),
        truths=truths,
    )
