"""COCO-Stuff-10k (version 1.1): label PNGs of 171 classes, from MATLAB files of 182 ids."""

import shutil
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import loadmat

from ...errors import DataError
from ...files import replacing
from .files import Prepared, convert_files, need

EXPECTED = {"train": 9000, "test": 1000}
# Ids of COCO that no pixel has, from 12 (street sign) to 91 (hair brush).
WITHOUT_PIXELS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91)
_IDS = [i for i in range(1, 183) if i not in WITHOUT_PIXELS]
_VOID = 255


def prepare(root: Path) -> list[Prepared]:
    """Write `images_detectron2`, `annotations_detectron2` and `classes_171.txt`.

    Args:
        root: the folder of all datasets; the originals are in `coco/coco_stuff_10k`: `images`,
            `annotations` and `imageLists`.

    Raises:
        DataError: the originals are missing, or a label is not one of COCO-Stuff's.
    """
    folder = need(
        root / "coco" / "coco_stuff_10k",
        "unpack cocostuff-10k-v1.1.zip (github.com/nightrome/cocostuff10k) there.",
    )
    names: list[str] = []
    prepared = []
    for split, expected in EXPECTED.items():
        listed = need(folder / "imageLists" / f"{split}.txt", "the archive is not complete.")
        images = listed.read_text(encoding="utf-8").split()
        _copy_images(folder, split, images)
        target = folder / "annotations_detectron2" / split
        prepared.append(
            convert_files(
                split,
                [
                    need(folder / "annotations" / f"{image}.mat", "the archive is not complete.")
                    for image in images
                ],
                partial(_label_file, target),
                _convert,
                expected,
            )
        )
        names = names or _class_names(folder / "annotations" / f"{images[0]}.mat")
    with replacing(folder / "classes_171.txt") as temporary:
        temporary.write_text("\n".join(names) + "\n", encoding="utf-8")
    return prepared


def _copy_images(folder: Path, split: str, images: list[str]) -> None:
    for image in images:
        path = folder / "images_detectron2" / split / f"{image}.jpg"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            source = need(folder / "images" / path.name, "the archive is not complete.")
            with replacing(path) as temporary:
                shutil.copyfile(source, temporary)


def _class_names(path: Path) -> list[str]:
    """Return the names of the 171 classes, which every MATLAB file has."""
    listed = [str(np.squeeze(name)) for name in loadmat(str(path))["names"].ravel()]
    named = listed[1:] if len(listed) == len(_IDS) + len(WITHOUT_PIXELS) + 1 else listed
    if len(named) != len(_IDS) + len(WITHOUT_PIXELS):
        raise DataError(f"{path} has {len(listed)} class names, and not 182. Take version 1.1.")
    return [named[i - 1] for i in _IDS]


def _label_file(folder: Path, source: Path) -> Path:
    return folder / f"{source.stem}.png"


def _convert(source: Path, target: Path) -> None:
    labels = loadmat(str(source))["S"].astype(np.int64)
    classes = np.full(256, -1)
    classes[0] = _VOID
    classes[_IDS] = range(len(_IDS))
    if labels.min() < 0 or labels.max() > 255 or (classes[labels] < 0).any():
        raise DataError(f"{source} has a label that is none of COCO-Stuff's. Unpack it again.")
    Image.fromarray(classes[labels].astype(np.uint8)).save(target)
