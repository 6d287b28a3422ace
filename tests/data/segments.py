"""Small semantic and panoptic datasets, whose pictures tell their labels."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 48, 80


def draw_labels(seed: int, void: int, dtype: type, halves: bool = False) -> np.ndarray:
    rng = np.random.default_rng(seed)
    labels: np.ndarray = np.zeros((HEIGHT, WIDTH), dtype)
    if halves:
        labels[:, WIDTH // 2 :] = 1
        return labels
    for label in (1, 2, void):
        y, x = rng.integers(0, 24), rng.integers(0, 50)
        labels[y : y + 20, x : x + 25] = label
    return labels


def picture_of(labels: np.ndarray) -> np.ndarray:
    """Returns an RGB image whose red channel is 50 times the label; void is 250 or less."""
    red = np.minimum(labels.astype(np.int64) * 50, 250)
    return np.stack([red, 0 * red, 0 * red + 90], axis=2).astype(np.uint8)


def write_semantic(
    root: Path,
    *,
    dtype: type = np.uint8,
    void: int | None = None,
    ignore: str = "",
    classes: str = "a,b,c",
    void_everywhere: bool = False,
    halves: bool = False,
) -> str:
    """Writes three images and labels; returns the dataset's name in place."""
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True)
    void = void if void is not None else int(np.iinfo(dtype).max)
    for index in range(3):
        labels = draw_labels(index, void, dtype, halves)
        if void_everywhere:
            labels[:] = void
        Image.fromarray(picture_of(labels)).save(root / "images" / f"{index}.png")
        Image.fromarray(labels).save(root / "labels" / f"{index}.png")
    return f"semantic:{root / 'images'}:{root / 'labels'}:{classes}{ignore}"


def write_panoptic(root: Path) -> tuple[str, list[np.ndarray], list[list[dict[str, Any]]]]:
    """Writes three images with two things, two stuff regions and a crowd.

    Returns:
        The dataset's name in place, the segment ids of each image, and its segments.
    """
    for folder in ("images", "panoptic"):
        (root / folder).mkdir(parents=True)
    content: dict[str, list[Any]] = {"images": [], "annotations": []}
    content["categories"] = [
        {"id": 9, "name": "sky", "isthing": 0},
        {"id": 3, "name": "cat", "isthing": 1},
        {"id": 5, "name": "dog", "isthing": 1},
    ]
    all_ids, all_segments = [], []
    for index in range(3):
        ids = np.zeros((HEIGHT, WIDTH), np.int64)
        ids[:20] = 70000 + index  # sky
        ids[24:40, 4:20] = 255  # a cat, with an id that padding must not be taken for
        ids[24:40, 24:40] = 256  # another
        ids[24:44, 44:60] = 16  # a dog
        ids[24:44, 64:76] = 99  # a crowd of dogs
        categories = {70000 + index: 9, 255: 3, 256: 3, 16: 5, 99: 5}
        segments = [
            {"id": i, "category_id": c, "iscrowd": int(i == 99), "area": int((ids == i).sum())}
            for i, c in categories.items()
        ]
        classes = {9: 2, 3: 0, 5: 1}
        labels = np.full(ids.shape, 4)
        for i, c in categories.items():
            labels[ids == i] = classes[c]
        Image.fromarray(picture_of(labels)).save(root / "images" / f"{index}.png")
        colours = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=2)
        Image.fromarray(colours.astype(np.uint8)).save(root / "panoptic" / f"{index}.png")
        content["images"].append(
            {"id": index + 1, "file_name": f"{index}.png", "height": HEIGHT, "width": WIDTH}
        )
        content["annotations"].append(
            {"image_id": index + 1, "file_name": f"{index}.png", "segments_info": segments}
        )
        all_ids.append(ids)
        all_segments.append(segments)
    (root / "panoptic.json").write_text(json.dumps(content))
    return (
        f"panoptic:{root / 'images'}:{root / 'panoptic'}:{root / 'panoptic.json'}",
        all_ids,
        all_segments,
    )
