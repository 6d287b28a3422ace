"""Splitting of a COCO-format dataset into training and validation images."""

import json
from pathlib import Path
from typing import Any

from ...errors import DataError
from ...files import replacing

TRAIN, VAL = "train", "val"
DEFAULT_VAL_EVERY = 5


def split_coco(content: dict[str, Any], val_every: int) -> dict[str, dict[str, Any]]:
    """Split the images of a dataset, and their annotations, into training and validation.

    Args:
        content: of a COCO-format json that was checked.
        val_every: in the order of their names, the first image and every `val_every`-th after it
            are for validation.

    Returns:
        The contents of two json files, "train" and "val". Both have all other parts of `content`.

    Raises:
        DataError: there would be no image to train on, or none to validate on.
    """
    images = sorted(content["images"], key=lambda image: str(image["file_name"]))
    if val_every < 2 or len(images) < 2:
        raise DataError(
            f"Can't use every {val_every}th of {len(images)} images for validation. Give at least "
            "2 images, and --val-every 2 or more."
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
        DataError: a file can't be written.
    """
    paths = {split: folder / f"{split}.json" for split in splits}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for split, content in splits.items():
            with replacing(paths[split]) as temporary:
                # Polygons are arrays, which `default` turns into lists.
                temporary.write_text(json.dumps(content, default=list), encoding="utf-8")
    except OSError as error:
        raise DataError(
            f"{folder} can't be written to ({error.strerror}). Name another folder."
        ) from error
    return paths
