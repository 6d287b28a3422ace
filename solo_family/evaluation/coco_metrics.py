"""COCO's metrics by hotcoco, with the numbers of pycocotools, or by pycocotools itself.

hotcoco compares and matches in Rust. Its precision and recall are those of pycocotools to the last
bit, and the means over them are computed here, for both alike.

T IoU thresholds, R recalls, K categories, A sizes of objects, M limits on detections.
"""

import importlib.util
import os
from collections.abc import Iterable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import cached_property
from io import StringIO
from types import SimpleNamespace
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval, Params

LIBRARIES = ("hotcoco", "pycocotools")
# Sizes of objects in COCO's order: all, small, medium, large.
_SIZES = range(4)
# Keys that both libraries read, of what people's files say of images and categories.
_IMAGE_KEYS = ("id", "height", "width")
_CATEGORY_KEYS = ("id", "name")
_LARGEST_ID = 2**63 - 1
# The process in which hotcoco has started its threads.
_threads_of: int | None = None


@dataclass(frozen=True)
class CocoMetrics:
    """What an evaluation found, under the names of pycocotools' `COCOeval`.

    Attributes:
        eval: "precision" float64 [T, R, K, A, M] and "recall" float64 [T, K, A, M]; -1 where there
            is no ground truth.
        params: with `maxDets`, the limits.
    """

    eval: dict[str, np.ndarray]
    params: Any

    @cached_property
    def stats(self) -> np.ndarray:
        """COCO's twelve numbers, float64; -1 where there is no ground truth.

        AP, AP50, AP75, AP of small, medium and large objects; AR with the first, the second and the
        third limit, and of small, medium and large objects with the third. Every AP is with the
        third limit.
        """
        precision, recall = self.eval["precision"], self.eval["recall"]
        thresholds = Params(iouType="segm").iouThrs
        at = [precision[thresholds == threshold] for threshold in (0.5, 0.75)]
        precisions = [precision[..., 0, -1], *(one[..., 0, -1] for one in at)]
        precisions += [precision[..., size, -1] for size in _SIZES[1:]]
        recalls = [recall[:, :, 0, limit] for limit in range(recall.shape[-1])]
        recalls += [recall[:, :, size, -1] for size in _SIZES[1:]]
        return np.array([_mean(values) for values in [*precisions, *recalls]])


def _mean(values: np.ndarray) -> float:
    known = values[values > -1]
    return float(known.mean()) if known.size else -1.0


def coco_metrics(
    truth: COCO,
    results: Sequence[dict[str, Any]],
    task: str,
    limits: Sequence[int],
    *,
    images: Iterable[Any] | None = None,
    library: str = "hotcoco",
) -> CocoMetrics:
    """Compare results with the ground truth.

    Args:
        truth: the ground truth, with masks in RLE.
        results: at least one, each with image_id, category_id, score, and as the task needs it bbox
            or segmentation; not changed.
        task: "bbox" or "segm". The size of an object is the area of its box, or of its mask.
        limits: three, ascending: how many detections of an image and category count.
        images: ids of the images to evaluate; None for all.
        library: "hotcoco", which is used if it can be (see `library_for`), or "pycocotools".
    """
    kind = {"bbox": "bbox", "segm": "segmentation"}[task]
    keys = ("image_id", "category_id", "score", kind)
    given = [{key: result[key] for key in keys} for result in results]
    compare = _by_hotcoco if library_for(truth, library) == "hotcoco" else _by_pycocotools
    return compare(truth, given, task, list(limits), None if images is None else list(images))


def library_for(truth: COCO, wanted: str) -> str:
    """Return the library that evaluates a ground truth.

    hotcoco needs ids of images and categories that are numbers from 0 on; pycocotools takes any.
    The threads of hotcoco don't survive a fork, so that it would wait for them in a process that
    was forked after they had started.

    Args:
        truth: the ground truth.
        wanted: the one to use if it can be; one of `LIBRARIES`.
    """
    if wanted != "hotcoco" or importlib.util.find_spec("hotcoco") is None:
        return "pycocotools"
    if _threads_of not in (None, os.getpid()):
        return "pycocotools"
    ids = [*truth.imgs, *truth.cats]
    fits = all(type(one) is int and 0 <= one <= _LARGEST_ID for one in ids)
    return "hotcoco" if fits else "pycocotools"


def _by_hotcoco(
    truth: COCO,
    results: list[dict[str, Any]],
    task: str,
    limits: list[int],
    images: list[Any] | None,
) -> CocoMetrics:
    # Only a process that evaluates needs it.
    import hotcoco

    global _threads_of
    _threads_of = os.getpid()
    dataset = truth.dataset
    expected = hotcoco.COCO(
        {
            "images": [_only(_IMAGE_KEYS, image) for image in dataset["images"]],
            "categories": [_only(_CATEGORY_KEYS, category) for category in dataset["categories"]],
            "annotations": dataset["annotations"],
        }
    )
    evaluation = hotcoco.COCOeval(expected, expected.load_res(results), task)
    evaluation.params.max_dets = limits
    if images is not None:
        evaluation.params.img_ids = images
    evaluation.evaluate()
    evaluation.accumulate()
    return _found(evaluation.eval, limits)


def _by_pycocotools(
    truth: COCO,
    results: list[dict[str, Any]],
    task: str,
    limits: list[int],
    images: list[Any] | None,
) -> CocoMetrics:
    with redirect_stdout(StringIO()):  # it prints how long each step took
        evaluation = COCOeval(truth, truth.loadRes(results), task)
        evaluation.params.maxDets = limits
        if images is not None:
            evaluation.params.imgIds = images
        evaluation.evaluate()
        evaluation.accumulate()
    return _found(evaluation.eval, limits)


def _found(arrays: Any, limits: list[int]) -> CocoMetrics:
    kept = {key: np.asarray(arrays[key]) for key in ("precision", "recall")}
    return CocoMetrics(kept, SimpleNamespace(maxDets=limits))


def _only(keys: Sequence[str], record: dict[str, Any]) -> dict[str, Any]:
    return {key: record[key] for key in keys if key in record}
