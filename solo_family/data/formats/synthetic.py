"""The *shapes* dataset: small drawn images with exact masks, in COCO's format, made from a seed.

It has the difficulties of instance segmentation: most objects occlude others or are occluded, many
are small, one category has a hole, and a few images are empty. `synthetic_scene.py` draws them.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from pycocotools import mask as mask_util
from scipy.ndimage import find_objects

from ...errors import DataError
from ...files import making
from ...progress import Progress
from .synthetic_scene import SHAPES, Colours, Scene, Segments, draw_scene
from .synthetic_stuff import SegmentWriter, draw_regions

VERSION = 1  # Raise it whenever the files made from the same arguments change.
MADE_WITH = Path("annotations", "made_with.json")
SPLITS = ("train", "val")
JPEG = [cv2.IMWRITE_JPEG_QUALITY, 95]
MIN_IMAGE_SIDE = 64
EMPTY_EVERY = 25
MAX_OBJECTS = 9


def make_shapes(
    root: str | Path,
    *,
    num_train: int = 600,
    num_val: int = 100,
    image_size: tuple[int, int] = (192, 256),
    seed: int = 0,
    stuff: bool = False,
) -> Path:
    """Write the dataset, or keep it if `root` already holds the one made with these arguments.

    It consists of `annotations/{train,val}.json`, `train/*.jpg` and `val/*.jpg`. All of them appear
    under `root` at once when they are complete, so an interrupted run leaves nothing there.

    Args:
        root: folder to make; it must not exist, or be empty, or hold the same dataset.
        num_train: number of training images.
        num_val: number of validation images.
        image_size: (height, width) in pixels; the shares of small and overlapping objects are meant
            for the default.
        seed: not negative; the same seed gives the same files.
        stuff: whether to draw a background of stuff regions, and to write labels of all pixels:
            `panoptic/{train,val}/*.png` and `annotations/panoptic_{train,val}.json` in COCO's
            panoptic format, `labels/{train,val}/*.png` with semantic classes, and `classes.txt`
            with their names, those of the objects before those of the stuff.

    Returns:
        The absolute path of `root`.

    Raises:
        DataError: an argument is out of range, or `root` holds other files.
    """
    root = Path(root).resolve()
    arguments = dict(
        version=VERSION, num_train=num_train, num_val=num_val, image_size=[*image_size], seed=seed
    ) | ({"stuff": True} if stuff else {})
    if min(num_train, num_val) < 1 or min(image_size) < MIN_IMAGE_SIDE or seed < 0:
        raise DataError(
            f"make_shapes got {arguments}. Give at least 1 image per split, {MIN_IMAGE_SIDE} "
            "pixels per side, and a seed of at least 0."
        )
    if _already_made(root, arguments):
        return root
    root.parent.mkdir(parents=True, exist_ok=True)
    with making(root) as build:
        (build / MADE_WITH).parent.mkdir(parents=True)
        for split, num in zip(SPLITS, (num_train, num_val)):
            _write_split(build, split, num, image_size, seed, stuff)
        (build / MADE_WITH).write_text(json.dumps(arguments), encoding="utf-8")
    return root


def _already_made(root: Path, arguments: dict[str, Any]) -> bool:
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    advice = "Name another folder, or delete this one first."
    if not (root / MADE_WITH).is_file():
        raise DataError(f"{root} exists and holds no shapes dataset. {advice}")
    held = json.loads((root / MADE_WITH).read_text(encoding="utf-8"))
    if held != arguments:
        raise DataError(f"{root} holds shapes made with {held}, not with {arguments}. {advice}")
    return True


def _write_split(
    root: Path, split: str, num: int, image_size: tuple[int, int], seed: int, stuff: bool
) -> None:
    (root / split).mkdir()
    segmentation = SegmentWriter(root, split, list(SHAPES)) if stuff else None
    content = new_content()
    for image_id in Progress(range(1, num + 1), desc=f"shapes {split}", unit="image"):
        # Each image has its own seed, so that it does not depend on the number of images.
        rng = np.random.default_rng([seed, SPLITS.index(split), image_id])
        empty = image_id % EMPTY_EVERY == EMPTY_EVERY // 2
        num_objects = 0 if empty else int(rng.integers(1, MAX_OBJECTS + 1))
        regions = draw_regions(rng, image_size) if stuff else None
        scene = draw_scene(rng, image_size, num_objects, regions)
        add_image(content, root / split / f"{image_id:06d}.jpg", image_id, scene, rng)
        if segmentation is not None and regions is not None:
            segmentation.add(content["images"][-1], scene.segments, scene.category_ids, regions[1])
    if segmentation is not None:
        segmentation.close()
    path = root / "annotations" / f"{split}.json"
    path.write_text(json.dumps(content), encoding="utf-8")


def new_content() -> dict[str, list[Any]]:
    """Return the content of a file in COCO's format that has the categories alone."""
    categories = [{"id": number, "name": name} for number, name in enumerate(SHAPES, start=1)]
    return {"images": [], "annotations": [], "categories": categories}


def add_image(
    content: dict[str, list[Any]], path: Path, image_id: int, scene: Scene, rng: Generator
) -> None:
    """Write the photograph of a scene to `path`, and add it and its objects to `content`.

    Raises:
        DataError: the file can't be written.
    """
    if not cv2.imwrite(str(path), _photograph(rng, scene.canvas), JPEG):
        raise DataError(f"Can't write {path}. Check the free space and the permissions.")
    height, width = scene.segments.shape
    content["images"].append(dict(id=image_id, file_name=path.name, height=height, width=width))
    for annotation in _annotations(scene):
        ids = {"id": len(content["annotations"]) + 1, "image_id": image_id}
        content["annotations"].append(ids | annotation)


def _annotations(scene: Scene) -> Iterator[dict[str, Any]]:
    windows = find_objects(scene.segments, max_label=len(scene.category_ids))
    for index, (category_id, window) in enumerate(zip(scene.category_ids, windows, strict=True)):
        rle = _rle(scene.segments, index + 1, window[1])
        yield {
            "category_id": category_id,
            "segmentation": {"size": rle["size"], "counts": rle["counts"].decode("ascii")},
            "area": int(mask_util.area(rle)),
            "bbox": mask_util.toBbox(rle).tolist(),
            "iscrowd": 0,
        }


def _rle(segments: Segments, number: int, columns: slice) -> Any:
    """Return the RLE of an object's mask, of which only the columns that it has are read."""
    pixels = (segments[:, columns] == number).ravel(order="F")
    edges = np.flatnonzero(np.diff(pixels, prepend=False, append=False))
    edges += columns.start * len(segments)
    runs = np.diff(edges, prepend=0, append=segments.size)
    size = list(segments.shape)
    counts = runs[: len(runs) - (runs[-1] == 0)].tolist()  # no run of 0 at the end
    return mask_util.frPyObjects({"size": size, "counts": counts}, *size)


def _photograph(rng: Generator, canvas: Colours) -> NDArray[np.uint8]:
    blurred = cv2.GaussianBlur(canvas, (0, 0), sigmaX=rng.uniform(0.2, 0.8))
    noisy = blurred + rng.normal(0, rng.uniform(1, 5), canvas.shape)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
