"""Datasets in COCO's format: detectron2's dicts for training, and ground truth for evaluation."""

from collections import defaultdict
from contextlib import redirect_stdout
from io import StringIO
from typing import Any

from detectron2.data import MetadataCatalog
from detectron2.structures import BoxMode
from pycocotools import mask as mask_util
from pycocotools.coco import COCO

from .coco_file import CocoFile, check_parts, read_coco_file, without_collection
from .coco_normalise import compact
from .coco_values import is_area
from .crowds import OBJECTS
from .own_records import dataset_records
from .segmentation import to_rle


def load_coco(annotations: str, image_dir: str, crowd: str = "") -> list[dict[str, Any]]:
    """Return detectron2's dicts of a dataset, without annotations that have no usable mask.

    They are those of detectron2's `load_coco_json`, except that polygons are arrays of float64.
    Classes are in the order of the categories' ids.

    Args:
        annotations: path of the json file.
        image_dir: the folder that its `file_name`s are relative to.
        crowd: "objects" to read crowds as objects, or "".

    Raises:
        DataError: the file can't be used, or names images that don't exist.
    """
    file = read_coco_file(annotations, image_dir)
    file.check()
    paths = file.image_paths(image_dir)
    classes = {category["id"]: index for index, category in enumerate(file.categories)}
    by_image: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    with without_collection():
        for annotation in file.usable:
            by_image[annotation["image_id"]].append(
                {
                    "iscrowd": 0 if crowd == OBJECTS else annotation["iscrowd"],
                    "bbox": annotation["bbox"],
                    "segmentation": annotation["segmentation"],
                    "category_id": classes[annotation["category_id"]],
                    "bbox_mode": BoxMode.XYWH_ABS,
                }
            )
    records = [
        {
            "file_name": path,
            "height": image["height"],
            "width": image["width"],
            "image_id": image["id"],
            "annotations": by_image[image["id"]],
        }
        for image, path in zip(file.images, paths)
    ]
    records.sort(key=lambda record: record["image_id"])
    return records


def check_coco(annotations: str, image_dir: str) -> None:
    """Check a json file, and that its images exist.

    Args:
        annotations: path of the json file.
        image_dir: the folder that its `file_name`s are relative to.

    Raises:
        DataError: the file can't be used, or names images that don't exist.
    """
    file = read_coco_file(annotations, image_dir)
    file.check()
    file.image_paths(image_dir)


def coco_classes(annotations: str, image_dir: str | None = None) -> dict[int, str]:
    """Return the class names of a json file by their ids, in the order of the model's outputs.

    Args:
        annotations: path of the json file.
        image_dir: the folder that its `file_name`s are relative to; None if it is unknown.

    Raises:
        DataError: the file can't be used.
    """
    file = read_coco_file(annotations, image_dir)
    file.check()
    return {category["id"]: category["name"] for category in file.categories}


def read_coco_truth(annotations: str, image_dir: str | None = None, crowd: str = "") -> COCO:
    """Return the ground truth of a json file for pycocotools; see `truth_of`.

    Args:
        annotations: path of the json file.
        image_dir: the folder that its `file_name`s are relative to; None if it is unknown.
        crowd: "objects" to read crowds as objects, or "".

    Raises:
        DataError: the file can't be used.
    """
    return truth_of(read_coco_file(annotations, image_dir), crowd)


def dataset_truth(name: str) -> COCO:
    """Return the ground truth of a registered dataset for pycocotools; see `truth_of`.

    Raises:
        DataError: its annotations can't be used.
    """
    metadata = MetadataCatalog.get(name)
    if metadata.get("json_file") and metadata.get("evaluator_type") != "lvis":
        folder, crowd = metadata.get("image_root"), metadata.get("crowd", "")
        return read_coco_truth(metadata.json_file, folder, crowd)
    return truth_of(records_as_file(name))


def truth_of(file: CocoFile, crowd: str = "") -> COCO:
    """Return the ground truth of a file for pycocotools, without unusable masks.

    Annotation ids count from 1, because COCOeval treats a match with id 0 as no match. Masks are
    RLE. Missing areas are computed from the masks. A file without "annotations" gives ground truth
    without "annotations".

    Args:
        file: the content of a json.
        crowd: "objects" to read crowds as objects, or "".

    Raises:
        DataError: a value of the file is invalid.
    """
    file.check()
    sizes = {image["id"]: (image["height"], image["width"]) for image in file.images}
    truth = COCO()
    truth.dataset = {
        "info": {},
        "images": [dict(image) for image in file.images],
        "categories": [dict(category) for category in file.categories],
    }
    if file.is_annotated:
        truth.dataset["annotations"] = [
            _evaluable(annotation, number, sizes[annotation["image_id"]], crowd)
            for number, annotation in enumerate(file.usable, start=1)
        ]
    with redirect_stdout(StringIO()):  # pycocotools prints a line about its index
        truth.createIndex()
    return truth


def _evaluable(
    annotation: dict[str, Any], number: int, size: tuple[int, int], crowd: str
) -> dict[str, Any]:
    rle = to_rle(annotation["segmentation"], size)
    area = annotation.get("area")
    return {
        "id": number,
        "image_id": annotation["image_id"],
        "category_id": annotation["category_id"],
        "iscrowd": 0 if crowd == OBJECTS else annotation["iscrowd"],
        "area": area if is_area(area) else float(mask_util.area(rle)),
        "bbox": annotation["bbox"],
        "segmentation": rle,
    }


def records_as_file(name: str) -> CocoFile:
    """Return a dataset that is registered as detectron2's dicts, as the content of a COCO json."""
    metadata = MetadataCatalog.get(name)
    records = dataset_records(name)
    to_contiguous = metadata.get("thing_dataset_id_to_contiguous_id") or {}
    to_dataset = {index: identity for identity, index in to_contiguous.items()}
    classes = metadata.get("thing_classes") or []
    content: dict[str, Any] = {
        "images": [],
        "categories": [
            {"id": to_dataset.get(index, index), "name": label}
            for index, label in enumerate(classes)
        ],
        "annotations": [],
    }
    for number, record in enumerate(records):
        image_id = record.get("image_id", number)
        size = {key: record.get(key) for key in ("height", "width")}
        content["images"].append({"id": image_id, "file_name": record["file_name"]} | size)
        for annotation in record.get("annotations", []):
            content["annotations"].append(
                _from_record(annotation, image_id, to_dataset) | {"id": len(content["annotations"])}
            )
    check_parts(name, content)
    return CocoFile(name, content, image_dir="")


def _from_record(
    annotation: dict[str, Any], image_id: Any, to_dataset: dict[int, int]
) -> dict[str, Any]:
    category = int(annotation["category_id"])
    taken = {
        "image_id": image_id,
        "category_id": to_dataset.get(category, category),
        "iscrowd": int(annotation.get("iscrowd", 0)),
        "segmentation": annotation.get("segmentation"),
    }
    if annotation.get("bbox") is not None:
        box = [float(side) for side in annotation["bbox"]]
        mode = annotation.get("bbox_mode", BoxMode.XYXY_ABS)
        taken["bbox"] = BoxMode.convert(box, mode, BoxMode.XYWH_ABS)
    if isinstance(taken["segmentation"], dict):
        taken["segmentation"] = dict(taken["segmentation"])
        counts = taken["segmentation"].get("counts")
        if isinstance(counts, bytes):
            taken["segmentation"]["counts"] = counts.decode()
    return compact(taken)
