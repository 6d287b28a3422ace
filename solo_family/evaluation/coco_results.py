"""Check ground truth and predictions in COCO's formats, and evaluate them with pycocotools."""

import math
from collections import Counter
from contextlib import redirect_stdout
from io import StringIO
from typing import Any

import numpy as np
from detectron2.utils.file_io import PathManager
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ..data.formats.coco_json import dataset_truth, read_coco_truth
from ..data.formats.coco_normalise import whole_number
from ..data.formats.json_files import NotJson, parse_json
from ..errors import DataError
from ..ops.rle import fills_image
from ..progress import Progress
from .instance_results import most_per_image

# One prediction: image_id, category_id, score, and segmentation, a compressed RLE.
Result = dict[str, Any]

KEYS = ("image_id", "category_id", "score", "segmentation")


def read_truth(annotations: str, image_dir: str | None = None, crowd: str = "") -> COCO:
    """Read ground truth, as all evaluations do; see `read_coco_truth`.

    Args:
        annotations: path of the json file.
        image_dir: the folder of its images; None if it is unknown.
        crowd: "objects" to read crowds as objects, or "".

    Raises:
        DataError: the file doesn't exist, can't be used, or has no annotations.
    """
    return _annotated(read_coco_truth(annotations, image_dir, crowd), annotations)


def read_dataset_truth(name: str) -> COCO:
    """Read the ground truth of a registered dataset; see `read_truth`."""
    return _annotated(dataset_truth(name), name)


def _annotated(truth: COCO, source: str) -> COCO:
    if "annotations" not in truth.dataset:
        raise DataError(
            f"{source} has no 'annotations', so there is no ground truth to compare with. "
            "Name the file of a split that has annotations."
        )
    return truth


def read_results(predictions: str, truth: COCO) -> list[Result]:
    """Read COCO results, for instance detectron2's coco_instances_results.json; ignore boxes.

    An id that is a number in one of the two files and text in the other is the same id.

    Raises:
        DataError: the file doesn't exist, isn't in that format, or isn't about this ground truth.
    """
    try:
        with PathManager.open(predictions, "rb") as file:
            content = parse_json(file)
    except OSError as error:
        raise DataError(
            f"The predictions {predictions} can't be read ({error.strerror or error}). "
            "Give the path of a COCO results json."
        ) from error
    except NotJson as error:
        raise DataError(
            f"{predictions} is not JSON: {error}. Give the path of a COCO results json."
        ) from error
    if not isinstance(content, list):
        raise DataError(
            f"{predictions} is not a list of predictions. COCO results are "
            f"[{{{', '.join(KEYS)}}}, ...]. Give such a file, and not the annotation file."
        )
    with Progress(content, "predictions", unit="mask") as progress:
        for index, result in enumerate(progress):
            problem = _problem(result, truth)
            if problem:
                raise DataError(f"{predictions}: prediction {index}, counted from 0, {problem}")
    return [
        {key: result[key] for key in KEYS}
        | {
            "image_id": _known(result["image_id"], truth.imgs),
            "category_id": _known(result["category_id"], truth.cats),
        }
        for result in content
    ]


def _problem(result: Any, truth: COCO) -> str | None:
    """Return what is wrong with a prediction and how to fix it, or None."""
    missing = [key for key in KEYS if not isinstance(result, dict) or key not in result]
    if missing:
        hint = " Boxes alone can't be analysed." if missing == ["segmentation"] else ""
        return f"has no {', '.join(missing)}. Each needs {', '.join(KEYS)}.{hint}"
    image, category, score = result["image_id"], result["category_id"], result["score"]
    identity = _known(image, truth.imgs)
    if identity is None:
        return (
            f"has image_id {image!r}, which is not among the images of the ground truth. "
            "Name the annotation file of the dataset that was predicted on."
        )
    if _known(category, truth.cats) is None:
        return (
            f"has category_id {category!r}, which is not among the categories of the ground truth. "
            "Write the dataset's own ids, not the index of the class."
        )
    if isinstance(score, bool) or not isinstance(score, int | float) or not math.isfinite(score):
        return f"has score {score!r}; it must be a finite number."
    return _mask_problem(result["segmentation"], truth.imgs[identity])


def _known(identity: Any, known: dict[Any, Any]) -> Any:
    """Return the id that the ground truth has for an image or category; None if it has none."""
    if not isinstance(identity, int | float | str):
        return None
    if identity in known:
        return identity
    # The reader of annotations converts ids likewise: to numbers if all are such, else to text.
    return next((form for form in (whole_number(identity), str(identity)) if form in known), None)


def _mask_problem(segmentation: Any, image: dict[str, Any]) -> str | None:
    if not isinstance(segmentation, dict) or not isinstance(segmentation.get("counts"), str):
        given = "polygons" if isinstance(segmentation, list) else "something else"
        return (
            f"has {given} as segmentation. COCO results hold compressed RLE, "
            '{"size": [height, width], "counts": "..."}; pycocotools.mask.encode makes it.'
        )
    size = [image["height"], image["width"]]
    if segmentation.get("size") != size:
        return (
            f"has a mask of size {segmentation.get('size')}, but image {image['id']} is {size} "
            "(height, width). Write masks at the size of the original image."
        )
    if not fills_image(segmentation):
        return f"has a damaged RLE: its runs don't add up to the {size} pixels. Write it again."
    return None


def with_annotations(content: dict[str, Any], annotations: list[dict[str, Any]]) -> COCO:
    """Return an indexed dataset with the same images and categories, but these annotations."""
    coco = COCO()
    coco.dataset = {**content, "annotations": annotations}
    with redirect_stdout(StringIO()):
        coco.createIndex()
    return coco


def evaluate(
    truth: COCO,
    results: list[Result],
    *,
    iou_threshold: float | None = None,
    by_size: bool = True,
) -> COCOeval:
    """Run pycocotools' evaluation of masks, unmodified, and without its printing.

    All detections of an image count, as in `InstanceEvaluator`.

    Args:
        truth: result of `read_truth`.
        results: the prediction at index i gets id i + 1.
        iou_threshold: the only threshold, instead of COCO's ten.
        by_size: whether to evaluate small, medium and large objects by themselves, too, which takes
            four times as long.
    """
    with redirect_stdout(StringIO()):
        if results:
            predicted = truth.loadRes([dict(result) for result in results])
        else:  # `loadRes` fails for an empty list
            predicted = with_annotations(truth.dataset, [])
        evaluation = COCOeval(truth, predicted, "segm")
        if iou_threshold is not None:
            evaluation.params.iouThrs = np.array([iou_threshold])
        if not by_size:
            place = evaluation.params.areaRngLbl.index("all")
            evaluation.params.areaRng = [evaluation.params.areaRng[place]]
            evaluation.params.areaRngLbl = ["all"]
        counts = Counter(result["image_id"] for result in results)
        evaluation.params.maxDets = [most_per_image(counts.values())]
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation


def average_precision(
    evaluation: COCOeval,
    *,
    iou_threshold: float | None = None,
    size: str = "all",
    category: int | None = None,
) -> float | None:
    """Return COCO's mean over thresholds, recalls and categories, in percent.

    Args:
        evaluation: result of `evaluate`.
        iou_threshold: one of its thresholds; None for all.
        size: "all", "small", "medium" or "large".
        category: an id; None for all.

    Returns:
        The average precision; None if there is no ground truth.
    """
    params = evaluation.params
    # Axes [T, R, K, A, M]: thresholds, recalls, categories, sizes, limits on detections.
    precision = evaluation.eval["precision"][..., params.areaRngLbl.index(size), -1]
    if iou_threshold is not None:
        precision = precision[np.isclose(params.iouThrs, iou_threshold)]
    if category is not None:
        precision = precision[:, :, params.catIds.index(category)]
    precision = precision[precision > -1]
    return 100 * float(precision.mean()) if precision.size else None
