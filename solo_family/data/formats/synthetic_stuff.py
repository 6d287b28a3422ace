"""Stuff for the *shapes* dataset: background regions, and the labels of all pixels.

Shape letters: H W height and width of an image.
"""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from solo_family.errors import DataError

from .label_maps import encode_ids

# An image of regions, BGR [H, W, 3], 0 to 255, and the stuff class of each pixel, int64 [H, W], as
# an index into STUFF.
Regions = tuple[NDArray[np.float32], NDArray[np.int64]]

# Only the pattern distinguishes the classes; the colours of each are random.
STUFF = ("plain", "stripes", "checks")


def draw_regions(rng: Generator, image_size: tuple[int, int]) -> Regions:
    """Draw an image that one or two wavy lines divide into regions of different stuff."""
    height, width = image_size
    order = rng.permutation(len(STUFF))[: rng.integers(2, len(STUFF) + 1)]
    levels = np.sort(rng.uniform(0.2, 0.8, len(order) - 1)) * height
    xs = np.arange(width) / width
    ys = np.arange(height)[:, None]
    region = np.zeros(image_size, np.int64)
    for level in levels:
        tilt, wave, phase = rng.uniform(-0.3, 0.3), rng.uniform(0, 0.06), rng.uniform(0, 2 * np.pi)
        line = level + height * (tilt * (xs - 0.5) + wave * np.sin(2 * np.pi * 2 * xs + phase))
        region += ys > line
    labels = order[region]
    canvas = np.zeros((*image_size, 3), np.float32)
    for kind in order:
        inside = labels == kind
        canvas[inside] = _pattern(rng, int(kind), height, width)[inside]
    return canvas, labels


def _pattern(rng: Generator, kind: int, height: int, width: int) -> NDArray[np.float32]:
    angle, period = rng.uniform(0, np.pi), rng.uniform(10, 16)
    ys, xs = np.mgrid[:height, :width] / period
    along = np.cos(angle) * xs + np.sin(angle) * ys
    across = np.cos(angle) * ys - np.sin(angle) * xs
    bands = {
        "plain": np.zeros((height, width)),
        "stripes": np.floor(along) % 2,
        "checks": (np.floor(along) + np.floor(across)) % 2,
    }[STUFF[kind]]
    light = rng.uniform(60, 200, 3)
    difference = rng.choice((-1, 1), 3) * rng.uniform(20, 45, 3)
    return np.clip(light + bands[..., None] * difference, 0, 255).astype(np.float32)


class SegmentWriter:
    """Write the labels of one split: panoptic labels in COCO's format, and semantic ones.

    Args:
        root: the folder of the dataset.
        split: "train" or "val".
        things: names of the objects' categories. Category ids count from 1, things before stuff.
    """

    def __init__(self, root: Path, split: str, things: list[str]) -> None:
        self._root, self._split = root, split
        self._num_things = len(things)
        names = [*things, *STUFF]
        self._content: dict[str, list[Any]] = {"images": [], "annotations": []}
        self._content["categories"] = [
            {"id": index + 1, "name": name, "isthing": int(index < len(things))}
            for index, name in enumerate(names)
        ]
        for folder in ("panoptic", "labels"):
            (root / folder / split).mkdir(parents=True)
        text = "".join(f"{name}\n" for name in names)
        (root / "classes.txt").write_text(text, encoding="utf-8")

    def add(
        self,
        image: dict[str, Any],
        objects: NDArray[np.int32],
        category_ids: list[int],
        stuff: NDArray[np.int64],
    ) -> None:
        """Write one image's labels.

        Args:
            image: the image's entry in the json: `id`, `file_name`, `height` and `width`.
            objects: the object of each pixel, int32 [H, W], counted from 1; 0 for none.
            category_ids: of the objects.
            stuff: the stuff class at each pixel, also behind objects, int64 [H, W].
        """
        first_stuff = len(category_ids) + 1
        ids = np.where(objects > 0, objects, first_stuff + stuff)
        categories = [*category_ids, *(self._num_things + 1 + i for i in range(len(STUFF)))]
        segments = [
            {
                "id": int(identity),
                "category_id": categories[identity - 1],
                "iscrowd": 0,
                "area": int((ids == identity).sum()),
                "bbox": _box(ids == identity),
            }
            for identity in np.unique(ids)
        ]
        name = Path(image["file_name"]).with_suffix(".png").name
        labels = np.array(categories, np.uint8)[ids - 1] - 1
        self._write("panoptic", name, encode_ids(ids)[:, :, ::-1])  # OpenCV writes BGR
        self._write("labels", name, labels)
        self._content["images"].append(image)
        self._content["annotations"].append(
            {"image_id": image["id"], "file_name": name, "segments_info": segments}
        )

    def close(self) -> None:
        """Write the panoptic json of the split."""
        path = self._root / "annotations" / f"panoptic_{self._split}.json"
        path.write_text(json.dumps(self._content), encoding="utf-8")

    def _write(self, folder: str, name: str, pixels: NDArray[np.uint8]) -> None:
        path = self._root / folder / self._split / name
        if not cv2.imwrite(str(path), pixels):
            raise DataError(f"Can't write {path}. Check the free space and the permissions.")


def _box(mask: NDArray[np.bool_]) -> list[int]:
    ys, xs = mask.nonzero()
    left, top = int(xs.min()), int(ys.min())
    return [left, top, int(xs.max()) + 1 - left, int(ys.max()) + 1 - top]
