"""detectron2's dicts that code of the user's registers, in the one form that is trained on.

detectron2's documentation of these dicts is followed in many ways, and its functions take more than
it says: masks as arrays, polygons as tuples, no boxes. What can be meant in one way is read so.

h w of an image.
"""

import logging
import os
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from reprlib import repr as shortened
from typing import Any

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode
from pycocotools import mask as mask_util
from torch import Tensor

from ...errors import DataError
from .coco_normalise import normalise_mask
from .notices import Notices
from .segmentation import box_of, usable_at_any_size

logger = logging.getLogger(__name__)

# Names of the datasets that `load_coco` reads, which has already dropped unusable masks.
READ_HERE: set[str] = set()
Record = dict[str, Any]
# Keys of labels that are pictures.
_PICTURES = ("pan_seg_file_name", "sem_seg_file_name")
# The function of each dataset, and what it returned first: the id of each file, in its order.
_FIRST: dict[str, tuple[Callable[[], Any], dict[Any, Any]]] = {}


def dataset_records(name: str) -> list[Record]:
    """Return detectron2's dicts of a registered dataset.

    Dicts with instances, or without any labels, have `image_id` and `annotations`, and each
    annotation `bbox`, `bbox_mode`, `iscrowd`, and as `segmentation` polygons or RLE with its size.
    A box that is missing, or of which the mode is, is that of the mask. What a function of the
    user's returns is not changed. If it returns the same images in another order than before, they
    have the order and the ids of before: images and truth are read one after the other.

    Raises:
        DataError: an object has a class that the dataset has not, or a mask that can't be read; an
            image has no list of objects; or two classes have one name.
    """
    records = list(DatasetCatalog.get(name))
    # detectron2's own readers, as that of LVIS with its million of objects, leave nothing to do.
    theirs = str(getattr(DatasetCatalog[name], "__module__", "")).startswith("detectron2.")
    if theirs or name in READ_HERE:
        return records
    classes = list(MetadataCatalog.get(name).get("thing_classes") or [])
    twice = next((label for label in classes if classes.count(label) > 1), None)
    if twice is not None:
        raise DataError(
            f"Dataset {name!r} has the class {twice!r} twice. Classes are told apart by their "
            "names: give each its own."
        )
    count = len(classes)
    notices = Notices()
    read = [_read(record, number, name, count, notices) for number, record in enumerate(records)]
    if notices:
        _tell_once(f"{name}: read as detectron2's dicts: {', '.join(notices.listed())}.")
    return _as_before(name, read)


def _as_before(name: str, records: list[Record]) -> list[Record]:
    """Return records in the order, and with the ids, in which the same function gave them first."""
    function = DatasetCatalog[name]
    ids = {record.get("file_name"): record.get("image_id") for record in records}
    first, before = _FIRST.get(name, (None, {}))
    if first is not function or before.keys() != ids.keys():
        _FIRST[name] = function, ids
        return records
    if len(ids) != len(records) or list(before.items()) == list(ids.items()):
        return records
    _tell_once(
        f"{name}: its function has returned the images in another order, or with other ids, than "
        "before. Those of before are kept. Let it return them in one order, so that a resumed run "
        "sees the same, too."
    )
    named = {record["file_name"]: record for record in records}
    kept = [named[file] for file in before]
    return [
        record | {"image_id": image_id} if "image_id" in record else record
        for record, image_id in zip(kept, before.values())
    ]


@cache
def _tell_once(message: str) -> None:
    logger.info(message)


def _read(record: Record, number: int, name: str, count: int, notices: Notices) -> Record:
    for key in ("file_name", *_PICTURES):
        if isinstance(record.get(key), os.PathLike):
            record = record | {key: os.fspath(record[key])}
    given = record.get("annotations")
    if given is None and any(key in record for key in _PICTURES):
        return record
    place = f"Dataset {name!r}: {record.get('file_name')}"
    given = [] if given is None else given
    is_list = isinstance(given, Iterable) and not isinstance(given, Mapping | str)
    if not is_list or not all(isinstance(item, dict) for item in given):
        raise DataError(
            f"{place} has annotations {shortened(given)}; it must be a list with a dict of each "
            "object, and empty if there is none. Correct the function that returns it."
        )
    size = (record.get("height"), record.get("width"))
    annotations = []
    for annotation in given:
        annotation = annotation | {"category_id": _class_of(annotation, place, count)}
        annotations.append(_annotation(annotation, place, size, notices))
    image_id: Any = record.get("image_id")
    if isinstance(image_id, np.generic | np.ndarray | Tensor) and np.asarray(image_id).size == 1:
        image_id = image_id.item()
    image_id = number if image_id is None else image_id
    return {**record, "image_id": image_id, "annotations": annotations}


def _class_of(annotation: Record, place: str, count: int) -> int:
    """Return the place of an object's class, which may be any whole number, such as numpy's."""
    given: Any = annotation.get("category_id")
    try:
        index = -1 if isinstance(given, bool | str) or int(given) != given else int(given)
    except (TypeError, ValueError, OverflowError):
        index = -1
    if index < 0 or (count and index >= count):
        allowed = f"from 0 to {count - 1}" if count else "from 0 on"
        raise DataError(
            f"{place} has an object with category_id {given!r}; it must be the place of its class "
            f"in the dataset's thing_classes, {allowed}. Correct it, or set all thing_classes in "
            "MetadataCatalog."
        )
    return index


def _annotation(annotation: Record, place: str, size: tuple[Any, Any], notices: Notices) -> Record:
    read = {"iscrowd": 0, **annotation}
    if read.get("segmentation") is not None:
        try:
            read["segmentation"] = _plain(read["segmentation"], size, notices)
        except (TypeError, ValueError) as error:
            raise DataError(
                f"{place} has an object with the segmentation {shortened(read['segmentation'])}, "
                "which can't be read. Give a list of polygons [x1, y1, x2, y2, ...], RLE with "
                "'size' [height, width] and 'counts', or an array [height, width] that is not 0 "
                "where the object is."
            ) from error
        normalise_mask(read, notices)
    box = read.get("bbox")
    if box is None or not len(box) or read.get("bbox_mode") is None:
        mask = usable_at_any_size(read.get("segmentation"))
        read["bbox"] = [0.0] * 4 if mask is None else box_of(mask)
        read["bbox_mode"] = BoxMode.XYWH_ABS
        notices.add("no 'bbox' with 'bbox_mode', computed from the mask")
    return read


def _plain(given: Any, size: tuple[Any, Any], notices: Notices) -> Any:
    """Return a segmentation as a list of lists or arrays of numbers, or as RLE with its size."""
    if isinstance(given, Tensor):
        given = given.numpy(force=True)
    if isinstance(given, np.ndarray) and given.dtype != object:
        if _is_mask(given, size):
            notices.add("'segmentation', a mask as an array")
            return mask_util.encode(np.asfortranarray(given != 0, np.uint8))
        return given.tolist()
    if isinstance(given, dict):
        return _rle(given, size)
    if isinstance(given, str):
        raise TypeError("text is no list of polygons")
    return [_polygon(polygon) for polygon in given]


def _is_mask(given: np.ndarray, size: tuple[Any, Any]) -> bool:
    """Return whether an array is a mask of pixels, and not the points of polygons."""
    if given.ndim != 2:
        return False
    # A mask of another size, which is named later, is one number or 0 everywhere.
    return given.shape == size or len(np.unique(given[given != 0])) <= 1


def _rle(given: Record, size: tuple[Any, Any]) -> Record:
    """Return RLE with its size, which is the image's where it has none."""
    sides = given.get("size")
    counts = given.get("counts")
    if sides is None and None not in size:
        sides = size
    if sides is None or counts is None:
        raise ValueError("RLE needs its size and counts")
    if not isinstance(counts, bytes | str):
        counts = [int(count) for count in counts]
    elif isinstance(counts, bytes):
        counts = counts.decode("ascii")
    return {"size": [int(side) for side in sides], "counts": counts}


def _polygon(given: Any) -> Any:
    """Return a polygon of any sequence as a list or an array, and other parts as they are."""
    if isinstance(given, array):
        return given
    if type(given) is list and given and type(given[0]) in (float, int):
        return given  # the usual case; the checks below take long for a large dataset
    if isinstance(given, np.ndarray | Tensor):
        return given.tolist()
    if isinstance(given, Sequence) and not isinstance(given, str):
        return [_polygon(part) for part in given] if _is_nested(given) else list(given)
    return given


def _is_nested(given: Sequence[Any]) -> bool:
    return bool(given) and isinstance(given[0], Sequence | np.ndarray | Tensor)
