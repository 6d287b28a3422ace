"""Shares a COCO-format dataset out for training and validation."""

import json
from pathlib import Path
from typing import Any

from ...errors import DataError
from ...files import replacing

TRAIN, VAL = "train", "val"
DEFAULT_VAL_EVERY = 5


def split_coco(content: dict[str, Any], val_every: int) -> dict[str, dict[str, Any]]:
    """Return the content of two files; all else than images and annotations is in both.

    Args:
        content: of a COCO-format json whose parts fit together.
        val_every: of the images in the order of their names, the first, and from there on every
            so many-th, are for validation.

    Raises:
        DataError: there would be no image to train on, or none to validate on.
    """
    images = sorted(content["images"], key=lambda image: str(image["file_name"]))
    if val_every < 2 or len(images) < 2:
        raise DataError(
            f"Every {val_every}th of {len(images)} images can't be for validation: at least 2 "
            "images and --val-every 2 are needed."
        )
    shares = {
        TRAIN: [image for index, image in enumerate(images) if index % val_every],
        VAL: images[::val_every],
    }
    splits = {}
    for split, share in shares.items():
        ids = {image["id"] for image in share}
        annotations = [a for a in content.get("annotations", []) if a["image_id"] in ids]
        splits[split] = content | {"images": share, "annotations": annotations}
    return splits


def write_splits(splits: dict[str, dict[str, Any]], folder: Path) -> dict[str, Path]:
    """Write `train.json` and `val.json`, and return their paths.

    Raises:
        DataError: they can't be written.
    """
    paths = {split: folder / f"{split}.json" for split in splits}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for split, content in splits.items():
            with replacing(paths[split]) as temporary:
                # Polygons are arrays.
                temporary.write_text(json.dumps(content, default=list), encoding="utf-8")
    except OSError as error:
        raise DataError(
            f"{folder} can't be written to ({error.strerror}). Name another folder."
        ) from error
    return paths
