"""Checks across images and objects: duplicates, percentages, splits, objects lost by resizing."""

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as mask_util

from ...errors import first_of
from ..loading.watchdog import TIMEOUT, watched
from . import findings
from .annotation_check import MeasuredObject, name_of
from .findings import Findings

_SAME_IOU = 0.95
_NAMED = 10  # names in a line, at most
# Coordinates are taken for percentages if at least this many objects, all in images of at least
# this many pixels a side, have their largest coordinate between this one and 100.
_LEAST_OBJECTS, _LARGE, _REACH = 10, 300, 60
# A mask is a speck below this many pixels, as is one that fills less than this fraction of its box
# with pieces that are so small: a needle is one piece. Labels may be blurred if at least this many
# objects are in an image, and most are specks.
_SPECK, _FILLED, _MANY = 5, 0.05, 20
# The only object of a class in an image is perhaps several if it has at least this many separate
# regions, of more than a speck each, and if this is so in most images with objects, at least two.
_REGIONS, _LEAST_IMAGES = 3, 2
# A mask whose height and width are above this many pixels after the resize can't vanish.
_SURELY_KEPT = 2


def check_relations(
    check: Any,
    images: Mapping[Any, dict[str, Any]],
    objects: Mapping[Any, list[MeasuredObject]],
    timeout: float = TIMEOUT,
) -> None:
    """Record duplicate images and objects, coordinates in percent, and labels that seem wrong.

    Args:
        check: a `DatasetCheck`, whose `paths` have the files of the images; receives the findings.
        images: the json's images, by their ids.
        objects: the objects of each image, by its id.
        timeout: the longest time to read a file, in seconds; 0 sets no limit.
    """
    for group in same_pictures(check.paths, timeout):
        check.add(findings.SAME_PICTURE, " = ".join(str(images[i]["file_name"]) for i in group))
    for found in objects.values():
        for one, other in same_objects(found):
            check.add(findings.SAME_OBJECT, f"{other.name}, as {name_of(one.annotation)}")
    for key, found in objects.items():
        specks = sum(map(_is_speck, found)) if len(found) >= _MANY else 0
        if specks > len(found) / 2:
            name = images[key]["file_name"]
            check.add(findings.SPECKS, f"{name}: {specks} of {len(found)} objects")
    joined = [key for key, found in objects.items() if _are_joined(found)]
    if len(joined) >= _LEAST_IMAGES and len(joined) > sum(map(bool, objects.values())) / 2:
        check.add(findings.REGIONS, *(str(images[key]["file_name"]) for key in joined))
    everything = [found for items in objects.values() for found in items]
    if _are_percent(everything):
        check.add(findings.PERCENT, *(found.name for found in everything))


def _is_speck(found: MeasuredObject) -> bool:
    left, top, right, bottom = found.mask_box
    if found.area < _SPECK or found.area >= _FILLED * (right - left) * (bottom - top):
        return found.area < _SPECK
    pieces = cv2.connectedComponents(mask_util.decode(found.rle))[0] - 1  # without the background
    return found.area < _SPECK * pieces


def _are_joined(found: Sequence[MeasuredObject]) -> bool:
    classes = {item.annotation.get("category_id") for item in found}
    return len(classes) == len(found) and any(map(_is_joined, found))


def _is_joined(found: MeasuredObject) -> bool:
    if isinstance(found.usable, list) and len(found.usable) < _REGIONS:
        return False
    _, _, stats, _ = cv2.connectedComponentsWithStats(mask_util.decode(found.rle))
    return int((stats[1:, cv2.CC_STAT_AREA] >= _SPECK).sum()) >= _REGIONS


def same_pictures(paths: Mapping[Any, str], timeout: float = TIMEOUT) -> list[list[Any]]:
    """Return groups of keys whose files have the same content.

    Only files that have the same length as another are read.
    """
    by_length: dict[int, list[Any]] = defaultdict(list)
    for key, path in paths.items():
        by_length[os.path.getsize(path)].append(key)
    groups: dict[Hashable, list[Any]] = defaultdict(list)
    alike = [(length, key) for length, keys in by_length.items() if len(keys) > 1 for key in keys]
    for length, key in watched(alike, "A file", timeout):
        groups[length, _digest(paths[key])].append(key)
    return [keys for keys in groups.values() if len(keys) > 1]


def _digest(path: str) -> bytes:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "blake2b").digest()


def same_objects(found: Sequence[MeasuredObject]) -> list[tuple[MeasuredObject, MeasuredObject]]:
    """Return the pairs of duplicate objects: the same class, and masks with an IoU above 0.95.

    Each duplicate is in one pair, with the first object that it repeats.
    """
    boxes = np.array([item.mask_box for item in found])
    if len(boxes) < 2:
        return []
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    pairs, twins = [], set()
    for index, box in enumerate(boxes[:-1]):
        if index in twins:
            continue
        rest = boxes[index + 1 :]
        sides = np.minimum(box[2:], rest[:, 2:]) - np.maximum(box[:2], rest[:, :2])
        inter = sides.clip(min=0).prod(1)
        union = areas[index] + areas[index + 1 :] - inter
        # The boxes of two such masks may differ more than the masks, by a thin protrusion.
        for other in (np.flatnonzero(inter >= 0.5 * union) + index + 1).tolist():
            one, two = found[index], found[other]
            same_class = one.annotation.get("category_id") == two.annotation.get("category_id")
            if same_class and mask_util.iou([one.rle], [two.rle], [0])[0, 0] > _SAME_IOU:
                pairs.append((one, two))
                twins.add(other)
    return pairs


def _are_percent(found: Sequence[MeasuredObject]) -> bool:
    if len(found) < _LEAST_OBJECTS or min(min(item.size) for item in found) < _LARGE:
        return False
    return _REACH <= max(max(item.mask_box) for item in found) <= 100


def vanishes(found: MeasuredObject, size: tuple[int, int]) -> bool:
    """Return whether an object has no pixel left after its image is resized.

    Args:
        found: the object.
        size: (height, width) that the image is resized to, in pixels.
    """
    scale_y, scale_x = size[0] / found.size[0], size[1] / found.size[1]
    left, top, right, bottom = found.mask_box
    if min((right - left) * scale_x, (bottom - top) * scale_y) > _SURELY_KEPT:
        return False
    if isinstance(found.usable, list):
        scaled = []
        for polygon in found.usable:
            points = np.asarray(polygon, dtype=np.float64).reshape(-1, 2) * (scale_x, scale_y)
            scaled.append(points.ravel().tolist())
        return not mask_util.area(mask_util.merge(mask_util.frPyObjects(scaled, *size)))
    mask = mask_util.decode(found.rle)
    # Nearest-neighbour sampling as in Pillow, which resizes the masks.
    rows = ((np.arange(size[0]) + 0.5) / scale_y).astype(int).clip(max=found.size[0] - 1)
    columns = ((np.arange(size[1]) + 0.5) / scale_x).astype(int).clip(max=found.size[1] - 1)
    return not mask[np.ix_(rows, columns)].any()


def check_splits(
    train: Mapping[str, Any], test: Mapping[str, Any], with_classes: bool = True
) -> Findings:
    """Compare the training datasets with the validation datasets.

    Args:
        train: the `DatasetCheck` of each training dataset, by its name.
        test: the `DatasetCheck` of each validation dataset, by its name. Datasets that are also in
            `train` are not compared.
        with_classes: whether the model has classes.

    Returns:
        Images in both splits, and classes that only one of them has.
    """
    check = Findings()
    only = {name: found for name, found in test.items() if name not in train}
    if not train or not only:
        return check
    paths = {
        (side, name, key): path
        for side, group in (("train", train), ("test", only))
        for name, found in group.items()
        for key, path in found.paths.items()
    }
    for keys in same_pictures(paths):
        sides = Counter(side for side, _, _ in keys)
        if len(sides) > 1:
            check.add(findings.SHARED_PICTURE, " = ".join(paths[key] for key in keys))
    if not with_classes:
        return check
    known = {name for found in train.values() for name in found.class_names}
    for name, found in only.items():
        missing, more = known - {*found.class_names}, {*found.class_names} - known
        if known and found.class_names and (missing or more):
            differing = (("lacks", missing), ("has also", more))
            words = " and ".join(
                f"{what} {first_of(sorted(some), _NAMED)}" for what, some in differing if some
            )
            check.add(findings.OTHER_CLASSES, f"{name} {words}")
    learnt = {name for found in train.values() for name in found.classes}
    sought = {name for found in only.values() for name in found.classes}
    check.add(findings.UNLEARNT_CLASS, *sorted(sought - learnt))
    return check
