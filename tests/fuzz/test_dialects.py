"""The readers of other tools' files on files that are broken in any way: our own errors only."""

import contextlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from hypothesis import strategies as st
from PIL import Image

from solo_family.data.formats import coco_file
from solo_family.data.formats.labelme import read_labelme
from solo_family.data.formats.register import check_datasets
from solo_family.data.loading.dataset_mapper import MaskDatasetMapper
from solo_family.errors import SoloFamilyError

from ..coco_folder import run_cfg
from ..data.tools import FIXTURES
from .fuzzing import MANY, fuzz
from .test_annotations import mutate, mutations

# The dataset's name, and the file that is broken; labelme's folder is converted first.
DIALECTS = {
    "Label Studio": ("coco_json:{}/label_studio/result.json:{}/label_studio", "result.json"),
    "Roboflow": ("coco_json:{}/roboflow/_annotations.coco.json:{}/roboflow", "*.coco.json"),
    "FiftyOne": ("coco_json:{}/fiftyone/labels.json:{}/fiftyone/data", "fiftyone/labels.json"),
    "VIA": ("coco_json:{}/via/via_export_coco.json:{}/via", "via_export_coco.json"),
    "datumaro": (
        "coco_json:{}/datumaro/annotations/instances_train.json:{}/datumaro?crowd=objects",
        "instances_train.json",
    ),
    "supervision": (
        "coco_json:{}/supervision/annotations.json:{}/supervision?crowd=objects",
        "annotations.json",
    ),
    "labelme": ("", "labelme/*.json"),
    "YOLO's outlines": ("yolo:{}/label_studio_yolo", "label_studio_yolo/labels/*-a.txt"),
    "YOLO's classes": ("yolo:{}/supervision_yolo", "data.yaml"),
    "VOC's classes": ("voc:{}/datumaro_voc", "labelmap.txt"),
    "VOC's list": ("voc:{}/datumaro_voc", "Segmentation/train.txt"),
    "VOC's pictures": ("voc:{}/datumaro_voc", "SegmentationObject/a.png"),
    "pictures of masks": ("masks:{}/masks/images:{}/masks/labels", "labels/*.png"),
}
# What stands in text files, put in anywhere.
WORDS = [
    *("", " ", "\n", "\r\n", "\t", ":", ",", "-", "0", "1", "-1", "1e999", "nan", "0x1", "9" * 400),
    *("cat", "train: [1, {}]", "names: {0: a, b: c}", "names: [[1], null]", "{", "[", "&a *a", "#"),
    *("\ufeff", "\0", "é", "images", "../..", "/", "a" * 300, "path: 7", "!!python/none", "0 " * 9),
]
change = st.tuples(
    st.integers(0, 10**6),
    st.sampled_from([word.encode() for word in WORDS]) | st.binary(max_size=6),
    st.sampled_from(["put in", "in place", "cut"]),
)


def change_bytes(whole: bytes, changes: list[tuple[int, bytes, str]]) -> bytes:
    for place, other, how in changes:
        place %= len(whole) + 1
        rest = b"" if how == "cut" else whole[place + len(other) * (how == "in place") :]
        whole = whole[:place] + other + rest
    return whole


def write_masks(root: Path) -> None:
    """Writes a picture, and one of the values of its two objects."""
    for name, mode in (("images", "RGB"), ("labels", "L")):
        (root / name).mkdir(parents=True)
        picture = np.zeros((48, 64), np.uint8)
        picture[5:20, 5:30], picture[25:40, 5:60] = 1, 2
        Image.fromarray(picture).convert(mode).save(root / name / "a_cat.png")


def forget(name: str) -> None:
    coco_file._files.clear()
    if name in DatasetCatalog.list():
        DatasetCatalog.remove(name)
    if name in MetadataCatalog.list():
        MetadataCatalog.remove(name)


def read_dataset(name: str, mapper: MaskDatasetMapper) -> None:
    """Reads a dataset as training does."""
    forget(name)
    check_datasets([name])
    for record in DatasetCatalog.get(name):
        with contextlib.suppress(SoloFamilyError):
            mapper(record)


@pytest.mark.slow
@pytest.mark.parametrize("examples", [MANY])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_broken_files_of_a_tool(dialect: str, tmp_path: Path, examples: int) -> None:
    form, pattern = DIALECTS[dialect]
    tools = shutil.copytree(FIXTURES, tmp_path / "tools")
    write_masks(tools / "masks")
    name = form.format(tools, tools)
    (file, *_) = sorted(tools.rglob(pattern))
    whole = file.read_bytes()
    mapper = MaskDatasetMapper(run_cfg("", tmp_path), is_train=True)
    read: Callable[[], Any] = lambda: read_dataset(name, mapper)  # noqa: E731
    if not name:
        read = lambda: read_labelme(file.parent)  # noqa: E731
    read()  # it works before it is broken, or this would show nothing

    def check(changes: list[Any]) -> None:
        if file.suffix == ".json" and isinstance(changes[0], tuple) and len(changes[0]) == 2:
            file.write_text(json.dumps(mutate(json.loads(whole), changes)))
        else:
            file.write_bytes(change_bytes(whole, changes))
        with contextlib.suppress(SoloFamilyError):
            read()

    of_bytes = st.lists(change, min_size=1, max_size=3)
    fuzz(
        check, mutations | of_bytes if file.suffix == ".json" else of_bytes, 2 * examples, tmp_path
    )
