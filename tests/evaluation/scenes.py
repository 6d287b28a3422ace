"""Ground truth and predictions of rectangles, for the tests beside it; and dense masks of both."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as mask_util

HEIGHT, WIDTH = 160, 200
CATEGORIES: list[dict[str, Any]] = [
    {"id": 3, "name": "dog"},
    {"id": 7, "name": "cat"},
    {"id": 9, "name": "cow"},
]

Box = tuple[int, int, int, int]


def rle(left: int, top: int, width: int, height: int) -> dict[str, Any]:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8, order="F")
    mask[top : top + height, left : left + width] = 1
    encoded = mask_util.encode(mask)
    return {"size": encoded["size"], "counts": encoded["counts"].decode()}


def truth(box: Box, category: int = 3, image: int = 1, crowd: int = 0) -> dict[str, Any]:
    """Returns an annotation without id; it begins with an id of 0 in `content`."""
    return {
        "image_id": image,
        "category_id": category,
        "bbox": list(box),
        "area": box[2] * box[3],
        "iscrowd": crowd,
        "segmentation": rle(*box),
    }


def prediction(box: Box, category: int = 3, image: int = 1, score: float = 0.5) -> dict[str, Any]:
    return {
        "image_id": image,
        "category_id": category,
        "score": score,
        "segmentation": rle(*box),
    }


def content(annotations: list[dict[str, Any]], images: int = 1) -> dict[str, Any]:
    return {
        "images": [
            {"id": number, "file_name": f"{number}.png", "height": HEIGHT, "width": WIDTH}
            for number in range(1, images + 1)
        ],
        "categories": CATEGORIES,
        "annotations": [{"id": number} | a for number, a in enumerate(annotations)],
    }


def write(
    root: Path, annotations: list[dict[str, Any]], predictions: Any, images: int = 1
) -> tuple[str, str]:
    """Writes both files and returns their paths."""
    paths = root / "truth.json", root / "predictions.json"
    for path, what in zip(paths, (content(annotations, images), predictions)):
        path.write_text(json.dumps(what))
    return str(paths[0]), str(paths[1])


def random_scene(seed: int, images: int = 8) -> tuple[list[dict], list[dict]]:
    """Returns annotations of which some are crowds, and predictions with all kinds of errors."""
    rng = np.random.default_rng(seed)
    ids = [category["id"] for category in CATEGORIES]
    annotations, predictions = [], []
    for image in range(1, images + 1):
        for _ in range(rng.integers(0, 7)):
            width, height = map(int, rng.integers(6, 130, 2))
            left, top = rng.integers(0, WIDTH - width), rng.integers(0, HEIGHT - height)
            box = (int(left), int(top), width, height)
            category = int(rng.choice(ids))
            annotations.append(truth(box, category, image, crowd=int(rng.random() < 0.15)))
            for _ in range(rng.integers(0, 4)):
                named = category if rng.random() < 0.7 else int(rng.choice(ids))
                predictions.append((_moved(box, rng), named, image))
        for _ in range(rng.integers(0, 3)):
            box = (int(rng.integers(0, 150)), int(rng.integers(0, 120)), 20, 20)
            predictions.append((box, int(rng.choice(ids)), image))
    # No two scores are the same: the order is nobody's choice.
    scores = (rng.permutation(len(predictions)) + 1) / (len(predictions) + 1)
    return annotations, [prediction(*p, score=float(s)) for p, s in zip(predictions, scores)]


def _moved(box: Box, rng: np.random.Generator) -> Box:
    left, top, width, height = box
    left += int(rng.normal(0, 0.15) * width)
    top += int(rng.normal(0, 0.15) * height)
    left, top = min(max(left, 0), WIDTH - 2), min(max(top, 0), HEIGHT - 2)
    return left, top, min(width, WIDTH - left), min(height, HEIGHT - top)


def dense(item: dict[str, Any]) -> np.ndarray:
    """bool [HEIGHT, WIDTH] of an annotation's or a prediction's mask."""
    return mask_util.decode(item["segmentation"]).astype(bool)


def iou(mask: np.ndarray, other: np.ndarray) -> float:
    return float((mask & other).sum() / (mask | other).sum())
