"""The remedies that are safe, applied: what a check finds and the file itself says how to fix."""

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import DataError
from ...files import replacing
from ..formats.coco_file import CocoFile
from ..formats.coco_values import is_box
from ..formats.crowds import OBJECTS
from ..formats.image_files import ImageFiles
from . import findings
from .annotation_check import MeasuredObject, are_shares, check_annotation
from .findings import Findings
from .relations import same_objects

_BOXES = (findings.BOX_ELSEWHERE, findings.BOX_OF_CORNERS)


def fix_dataset(file: CocoFile, image_dir: str, crowd: str = "") -> tuple[dict[str, Any], Counter]:
    """Fix what can be fixed without a guess; the file itself is left as it is.

    Annotation ids that stand twice are numbered anew; shares of the image become pixels; of objects
    that stand twice the first stays; boxes and areas that are not their mask's are made from it;
    images that are found under another name are named so. Crowds become objects with
    `?crowd=objects`.

    Args:
        file: whose values are normalised.
        image_dir: of its images.
        crowd: "objects" or "".

    Returns:
        The content of a COCO-format json, and what was done, how often.
    """
    done: Counter = Counter()
    images = [dict(image) for image in file.images]
    files = ImageFiles(image_dir, file.source)
    for image in images:
        _rename(image, files, image_dir, done)
    by_id = {image["id"]: image for image in images}
    annotations = [dict(annotation) for annotation in file.annotations]
    ids = [annotation.get("id") for annotation in annotations]
    if len(set(map(str, ids))) < len(ids):
        done["annotations numbered anew"] = len(ids)
        for number, annotation in enumerate(annotations, start=1):
            annotation["id"] = number
    objects: dict[Any, list[MeasuredObject]] = {}
    for annotation in annotations:
        of_image = by_id.get(annotation.get("image_id"))
        if crowd == OBJECTS and annotation.get("iscrowd"):
            annotation["iscrowd"] = 0
            done["crowds read as objects"] += 1
        found = _fix_annotation(annotation, of_image, done)
        if found is not None:
            objects.setdefault(annotation["image_id"], []).append(found)
    twins = [two for items in objects.values() for _, two in same_objects(items)]
    done["objects that stood twice removed"] += len(twins)
    gone = {id(twin.annotation) for twin in twins}
    kept = [annotation for annotation in annotations if id(annotation) not in gone]
    content = file.content | {"images": images, "categories": file.categories}
    if file.is_annotated:
        content["annotations"] = kept
    return content, +done


def _rename(image: dict[str, Any], files: ImageFiles, image_dir: str, done: Counter) -> None:
    name = str(image["file_name"])
    try:
        path = files.find(name)
    except DataError:
        return
    if path is not None and name in files.otherwise:
        image["file_name"] = Path(os.path.relpath(path, image_dir)).as_posix()
        done["images named as they are"] += 1


def _fix_annotation(
    annotation: dict[str, Any], image: dict[str, Any] | None, done: Counter
) -> MeasuredObject | None:
    if image is not None and is_box(annotation.get("bbox")) and are_shares(annotation):
        sides = np.array([image["width"], image["height"]], dtype=np.float64)
        annotation["segmentation"] = [
            (np.asarray(polygon).reshape(-1, 2) * sides).ravel().tolist()
            for polygon in annotation["segmentation"]
        ]
        annotation["bbox"] = (np.asarray(annotation["bbox"]) * [*sides, *sides]).tolist()
        annotation.pop("area", None)
        done["masks from shares to pixels"] += 1
    check = Findings()
    found = check_annotation(check, annotation, image)
    if found is None:
        return None
    if any(kind in check.found for kind in _BOXES):
        left, top, right, bottom = found.mask_box
        annotation["bbox"] = [left, top, right - left, bottom - top]
        done["boxes made from the mask"] += 1
    if "area" not in annotation or findings.OTHER_AREA in check.found:
        annotation["area"] = found.area
        done["areas taken from the mask"] += 1
    return found


def write_fixed(content: dict[str, Any], path: Path) -> None:
    """Write a json, whole or not at all.

    Raises:
        DataError: it can't be written.
    """
    try:
        with replacing(path) as temporary:
            # Polygons are arrays.
            temporary.write_text(json.dumps(content, default=list), encoding="utf-8")
    except OSError as error:
        raise DataError(
            f"{path} can't be written ({error.strerror}). Name another --write-fixed."
        ) from error
