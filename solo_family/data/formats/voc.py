"""PASCAL VOC 2012's instance segmentation dataset.

Shape letters: H W height and width of an image.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode
from PIL import Image
from pycocotools import mask as mask_util

from ...errors import DataError
from ...pictures.formats import SUFFIXES
from ...progress import Progress
from .label_maps import refuse_jpeg, refuse_pages
from .text_files import is_file

# The pixel values of SegmentationClass, from 1, are in this order.
VOC_CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
)
SPLITS = ("train", "val", "trainval")
EVALUATOR_TYPE = "voc_instance"
# The value and the colour of pixels that belong to no object: borders, and difficult objects.
_VOID = 255
_VOID_COLOUR = (224, 224, 192)


def register_voc_instances(name: str, root: str, split: str) -> None:
    """Register a split of VOC 2012's instance segmentation.

    Args:
        name: name of the dataset for `DATASETS.TRAIN` or `DATASETS.TEST`.
        root: the folder VOC2012, which has JPEGImages, ImageSets, SegmentationClass and
            SegmentationObject. It is not read before the dataset is used.
        split: train, val or trainval.
    """
    DatasetCatalog.register(name, partial(load_voc_instances, root, split))
    MetadataCatalog.get(name).set(
        thing_classes=list(VOC_CLASSES), evaluator_type=EVALUATOR_TYPE, dirname=root, split=split
    )


def load_voc_instances(root: str, split: str) -> list[dict[str, Any]]:
    """Return detectron2's dicts, with masks as RLE; `image_id` is a name like 2007_000033.

    Raises:
        DataError: a file or folder is missing, or files contradict each other; see `check_voc`.
    """
    check_voc(root, split)
    text = _split_file(root, split).read_text(encoding="utf-8")
    names = Progress(text.split(), f"VOC {split}", unit="image")
    return [load_image(Path(root), name, VOC_CLASSES, read_values) for name in names]


def check_voc(root: str, split: str) -> None:
    """Check that the folders and the list of images exist.

    Raises:
        DataError: one is missing; the message names the first.
    """
    for folder in ("JPEGImages", "SegmentationClass", "SegmentationObject"):
        if not Path(root, folder).is_dir():
            raise DataError(
                f"VOC 2012: there is no folder {Path(root, folder)}. Unpack "
                "VOCtrainval_11-May-2012, and move its folder VOC2012 into the folder that the "
                "environment variable DETECTRON2_DATASETS names."
            )
    if not _split_file(root, split).is_file():
        raise DataError(
            f"VOC 2012: there is no list of images {_split_file(root, split)}. "
            f"Name one of the splits {', '.join(SPLITS)}, or unpack the dataset again."
        )


def _split_file(root: str, split: str) -> Path:
    return Path(root, "ImageSets", "Segmentation", f"{split}.txt")


def load_image(
    root: Path, name: str, class_names: Sequence[str], read_classes: Callable[[Path], np.ndarray]
) -> dict[str, Any]:
    """Return detectron2's dict of an image, with a mask for each value in SegmentationObject.

    Args:
        root: the folder of JPEGImages, SegmentationClass and SegmentationObject.
        name: of the image, without extension.
        class_names: of the values of SegmentationClass, from 1.
        read_classes: reads a file of SegmentationClass as int64 [H, W].

    Raises:
        DataError: a file is missing, the two label images differ in size, or an object has no
            class.
    """
    path = root / "SegmentationObject" / f"{name}.png"
    class_path = root / "SegmentationClass" / path.name
    objects, classes = read_values(path), read_classes(class_path)
    if objects.shape != classes.shape:
        raise DataError(
            f"VOC: {path} has the size {objects.shape}, but {class_path} has the size "
            f"{classes.shape}. Export both again in the size of the image."
        )
    annotations = []
    for number in np.setdiff1d(objects, [0, _VOID]):
        mask = objects == number
        values = classes[mask]
        values = values[(values > 0) & (values <= len(class_names))]
        if not len(values):
            raise DataError(
                f"VOC: object {number} of {path} has no class in SegmentationClass; the classes "
                f"are {', '.join(class_names)}. Give the object one of them, or remove it."
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
        "file_name": image_file(root, name),
        "image_id": name,
        "height": height,
        "width": width,
        "annotations": annotations,
    }


def image_file(root: Path, name: str) -> str:
    """Return the path of an image in JPEGImages: NAME.jpg, or NAME with another extension."""
    path = root / "JPEGImages" / f"{name}.jpg"
    if not is_file(path):
        suffixes = (*SUFFIXES, *map(str.upper, SUFFIXES))
        others = (path.with_suffix(suffix) for suffix in suffixes)
        path = next((other for other in others if is_file(other)), path)
    return str(path)


def read_values(path: Path) -> np.ndarray:
    """Read the values of a label image, int64 [H, W].

    In a colour image each colour is a value; black is 0, and VOC's colour of void is 255.

    Raises:
        DataError: the file can't be read.
    """
    with open_picture(path) as image:
        if image.mode in ("P", "L", "I", "I;16", "1"):
            return np.asarray(image).astype(np.int64)
        colours = np.asarray(image.convert("RGB")).astype(np.int64)
    codes = colours @ np.array([1 << 16, 1 << 8, 1])
    codes[codes == _VOID] = 1 << 24  # pure blue has the same code as void
    codes[(colours == _VOID_COLOUR).all(axis=2)] = _VOID
    return codes


@contextmanager
def open_picture(path: Path) -> Iterator[Image.Image]:
    """Open a label image for the `with` block.

    Raises:
        DataError: the file can't be read.
    """
    try:
        image = Image.open(path)
        refuse_jpeg(path, image)
        refuse_pages(path, image)
        image.load()
    except DataError:
        raise
    except Exception as error:  # Pillow's decoders raise any error
        raise DataError(
            f"VOC: {path} can't be read as an image: {error}. Unpack or export it again."
        ) from error
    with image:
        yield image


def _register_all() -> None:
    root = os.path.expanduser(os.getenv("DETECTRON2_DATASETS", "datasets"))
    for split in SPLITS:
        name = f"voc_2012_instance_{split}"
        if name not in DatasetCatalog.list():
            register_voc_instances(name, os.path.join(root, "VOC2012"), split)


_register_all()
