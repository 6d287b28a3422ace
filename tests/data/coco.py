"""A COCO-format dataset of a few small pictures, for the tests beside it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 64, 96
CATEGORIES = [{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}]
# The model's outputs are in the order of the ids.
NAMES = ["dog", "cat"]


def write_dataset(root: Path, annotations: list[dict[str, Any]], images: int = 2) -> str:
    """Writes pictures and annotations under `root` and returns the dataset's name in place.

    Args:
        root: folder to fill.
        annotations: without ids; boxes are made of nothing, so give `bbox`.
        images: their number; ids count from 1.
    """
    (root / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    entries = []
    for image_id in range(1, images + 1):
        name = f"{image_id}.png"
        pixels = rng.integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
        Image.fromarray(pixels).save(root / "images" / name)
        entries.append({"id": image_id, "file_name": name, "height": HEIGHT, "width": WIDTH})
    content = {
        "images": entries,
        "categories": CATEGORIES,
        "annotations": [
            {"id": number, "iscrowd": 0, "area": 1} | annotation
            for number, annotation in enumerate(annotations, start=1)
        ],
    }
    (root / "instances.json").write_text(json.dumps(content))
    return f"coco_json:{root}/instances.json:{root}/images"


def rectangle(top: int, left: int, bottom: int, right: int) -> np.ndarray:
    """bool [HEIGHT, WIDTH], the last row and column exclusive."""
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[top:bottom, left:right] = True
    return mask


def polygon(top: int, left: int, bottom: int, right: int) -> list[list[int]]:
    return [[left, top, right, top, right, bottom, left, bottom]]


def counts(mask: np.ndarray) -> list[int]:
    """Run lengths down the columns, beginning with zeros: COCO's uncompressed RLE."""
    runs, value, run = [], False, 0
    for pixel in mask.T.ravel().tolist():
        if pixel != value:
            runs.append(run)
            value, run = pixel, 0
        run += 1
    return [*runs, run]
