"""PASCAL VOC 2012's instance segmentation: the images and masks of its segmentation task."""

import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode
from PIL import Image
from pycocotools import mask as mask_util
from tqdm import tqdm

from ...errors import DataError

# In the order of the pixel values of SegmentationClass, from 1.
VOC_CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
)
SPLITS = ("train", "val", "trainval")
EVALUATOR_TYPE = "voc_instance"
# Pixels at the borders of objects, and objects that are too hard: no object's.
_VOID = 255


def register_voc_instances(name: str, root: str, split: str) -> None:
    """Registers a split of VOC 2012's instance segmentation.

    Args:
        name: for `DATASETS.TRAIN` or `DATASETS.TEST`.
        root: the folder VOC2012, with JPEGImages, ImageSets, SegmentationClass and
            SegmentationObject in it. Nothing is read before the dataset is used.
        split: train, val or trainval.
    """
    DatasetCatalog.register(name, partial(load_voc_instances, root, split))
    MetadataCatalog.get(name).set(
        thing_classes=list(VOC_CLASSES), evaluator_type=EVALUATOR_TYPE, dirname=root, split=split
    )


def load_voc_instances(root: str, split: str) -> list[dict[str, Any]]:
    """Returns detectron2's dicts, with masks as RLE; `image_id` is the name, as 2007_000033.

    Raises:
        DataError: see `check_voc`.
    """
    check_voc(root, split)
    names = tqdm(_split_file(root, split).read_text().split(), f"VOC {split}", unit="image")
    return [_load_image(Path(root), name) for name in names]


def check_voc(root: str, split: str) -> None:
    """Checks that the folders and the list of images are there.

    Raises:
        DataError: names the first that is missing.
    """
    for folder in ("JPEGImages", "SegmentationClass", "SegmentationObject"):
        if not Path(root, folder).is_dir():
            raise DataError(
                f"VOC 2012: there is no folder {Path(root, folder)}. Unpack "
                "VOCtrainval_11-May-2012, and put its folder VOC2012 where DETECTRON2_DATASETS "
                "says."
            )
    if not _split_file(root, split).is_file():
        raise DataError(
            f"VOC 2012: there is no list of images {_split_file(root, split)}. "
            f"Splits are {', '.join(SPLITS)}."
        )


def _split_file(root: str, split: str) -> Path:
    return Path(root, "ImageSets", "Segmentation", f"{split}.txt")


def _load_image(root: Path, name: str) -> dict[str, Any]:
    path = root / "SegmentationObject" / f"{name}.png"
    objects, classes = _read_labels(path), _read_labels(root / "SegmentationClass" / path.name)
    if objects.shape != classes.shape:
        raise DataError(
            f"VOC 2012: {path} has the size {objects.shape}, but SegmentationClass has "
            f"{classes.shape} of this image."
        )
    annotations = []
    for number in np.setdiff1d(objects, [0, _VOID]):
        mask = objects == number
        values = classes[mask]
        values = values[(values > 0) & (values <= len(VOC_CLASSES))]
        if not len(values):
            raise DataError(
                f"VOC 2012: object {number} of {path} has no class in SegmentationClass."
            )
        rle = mask_util.encode(np.asfortranarray(mask, dtype=np.uint8))
        annotations.append(
            {
                "category_id": int(np.bincount(values).argmax()) - 1,
                "segmentation": rle,
                "bbox": mask_util.toBbox(rle).tolist(),
                "bbox_mode": BoxMode.XYWH_ABS,
                "iscrowd": 0,
            }
        )
    height, width = objects.shape
    return {
        "file_name": str(root / "JPEGImages" / f"{name}.jpg"),
        "image_id": name,
        "height": height,
        "width": width,
        "annotations": annotations,
    }


def _read_labels(path: Path) -> np.ndarray:
    """Returns the pixel values of a picture with a palette: uint8 [H, W]."""
    try:
        with Image.open(path) as image:
            return np.asarray(image)
    except OSError as error:
        raise DataError(f"VOC 2012: {path} can't be read as an image: {error}") from error


def _register_all() -> None:
    root = os.path.expanduser(os.getenv("DETECTRON2_DATASETS", "datasets"))
    for split in SPLITS:
        name = f"voc_2012_instance_{split}"
        if name not in DatasetCatalog.list():
            register_voc_instances(name, os.path.join(root, "VOC2012"), split)


_register_all()
