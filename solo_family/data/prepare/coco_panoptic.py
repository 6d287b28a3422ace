"""COCO's panoptic segments as semantic labels of 133 classes, things and stuff together.

detectron2's own preparation makes all things one class; MaskFormer's classes are all categories of
the panoptic json, in the order of their ids.
"""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...errors import DataError
from ...files import replacing
from ..formats.image_files import path_inside
from ..formats.label_maps import read_panoptic_ids
from ..formats.panoptic_dataset import read_panoptic_json
from .files import Prepared, convert_files, need

EXPECTED = {"train2017": 118287, "val2017": 5000}
_VOID = 255


def prepare(root: Path) -> list[Prepared]:
    """Write `panoptic_semseg_{train,val}2017` and `panoptic_semseg_classes.txt` of `coco`.

    Args:
        root: the folder of all datasets, with `coco/annotations/panoptic_{train,val}2017.json` and
            `coco/panoptic_{train,val}2017`.

    Raises:
        DataError: the originals are missing or contradict themselves, or there are too many
            classes for 8 bits.
    """
    folder = root / "coco"
    prepared = []
    names: list[str] = []
    for split, expected in EXPECTED.items():
        listed = need(
            folder / "annotations" / f"panoptic_{split}.json",
            "unpack panoptic_annotations_trainval2017.zip (cocodataset.org).",
        )
        source = need(folder / f"panoptic_{split}", f"unpack panoptic_{split}.zip of it there.")
        content = read_panoptic_json(str(listed))
        segments = {}
        for annotation in content["annotations"]:
            path = Path(path_inside(str(source), annotation["file_name"], str(listed)))
            segments[need(path, "the archive is not complete.")] = annotation["segments_info"]
        index = {category["id"]: i for i, category in enumerate(content["categories"])}
        if len(index) > _VOID:
            raise DataError(f"{listed} has {len(index)} categories; label PNGs have 255 at most.")
        names = names or [category["name"] for category in content["categories"]]
        target = folder / f"panoptic_semseg_{split}"
        prepared.append(
            convert_files(
                split,
                segments,
                partial(_label_file, target),
                partial(_convert, segments, index),
                expected,
            )
        )
    with replacing(folder / "panoptic_semseg_classes.txt") as temporary:
        temporary.write_text("\n".join(names) + "\n", encoding="utf-8")
    return prepared


def _label_file(folder: Path, source: Path) -> Path:
    return folder / f"{source.stem}.png"


def _convert(
    segments: dict[Path, list[dict[str, Any]]], index: dict[int, int], source: Path, target: Path
) -> None:
    ids = read_panoptic_ids(str(source))
    present, inverse = np.unique(ids, return_inverse=True)
    classes = np.full(len(present), _VOID, np.uint8)
    for segment in segments[source]:
        if segment["category_id"] not in index:
            raise DataError(
                f"{source}: its segment {segment['id']} has the category {segment['category_id']}, "
                "which is not among the json's categories. Unpack the annotations again."
            )
        classes[present == segment["id"]] = index[segment["category_id"]]
    Image.fromarray(classes[inverse.reshape(ids.shape)]).save(target)
