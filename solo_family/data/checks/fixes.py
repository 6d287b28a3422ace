"""Automatic fixes: those problems of a dataset for which the file itself determines the fix."""

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
    """Return a fixed copy of a dataset's content, with all problems whose fix is unambiguous fixed.

    Annotations are renumbered if ids are duplicate. Coordinates from 0 to 1 are multiplied by the
    image's size. Of duplicate objects the first is kept. Boxes and areas that contradict their mask
    are computed from it. Images that were identified under another name get that name. With
    `?crowd=objects`, crowds become objects.

    Args:
        file: the normalised json; it is not changed.
        image_dir: the folder of its images.
        crowd: "objects" to turn crowds into objects, or "".

    Returns:
        The content of a COCO-format json, and how often each fix was applied.
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
        done["annotations renumbered"] = len(ids)
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
    done["duplicate objects removed"] += len(twins)
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
        done["file names corrected"] += 1


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
        done["masks converted from fractions to pixels"] += 1
    check = Findings()
    found = check_annotation(check, annotation, image)
    if found is None:
        return None
    if any(kind in check.found for kind in _BOXES):
        left, top, right, bottom = found.mask_box
        annotation["bbox"] = [left, top, right - left, bottom - top]
        done["boxes computed from the mask"] += 1
    if "area" not in annotation or findings.OTHER_AREA in check.found:
        annotation["area"] = found.area
        done["areas computed from the mask"] += 1
    return found


def write_fixed(content: dict[str, Any], path: Path) -> None:
    """Write a json file atomically.

    Raises:
        DataError: the file can't be written.
    """
    try:
        with replacing(path) as temporary:
            # Polygons are arrays, which `default` turns into lists.
            temporary.write_text(json.dumps(content, default=list), encoding="utf-8")
    except OSError as error:
        raise DataError(
            f"{path} can't be written ({error.strerror}). Give --write-fixed another path."
        ) from error
