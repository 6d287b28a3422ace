"""What both models of a pair are given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from detectron2.data.transforms import ResizeShortestEdge
from detectron2.structures import BitMasks, Instances

# Objects in a picture that is trained on: COCO's mean.
_OBJECTS = 7


def read_pictures(folder: Path, count: int, short: int, longest: int) -> list[dict[str, Any]]:
    """Read the first pictures of a folder, resized as detectron2's test loader does.

    Args:
        folder: of pictures only.
        count: how many at most.
        short: their short edge.
        longest: the limit of the long edge.

    Returns:
        detectron2's dicts, `image` of them in BGR.
    """
    resize = ResizeShortestEdge(short, longest)
    items = []
    for file in sorted(folder.iterdir())[:count]:
        picture = cv2.imread(str(file))
        if picture is None:
            raise SystemExit(f"{file} is no picture.")
        resized = resize.get_transform(picture).apply_image(picture)
        image = torch.from_numpy(np.ascontiguousarray(resized.transpose(2, 0, 1)))
        items.append({"image": image, "height": picture.shape[0], "width": picture.shape[1]})
    return items


def training_picture(
    size: tuple[int, int], classes: int, seed: int, objects: int = _OBJECTS
) -> dict[str, Any]:
    """Make noise, and the masks of some ellipses."""
    rng = np.random.default_rng(seed)
    height, width = size
    masks = np.zeros((objects, height, width), np.uint8)
    for mask in masks:
        centre = int(rng.integers(8, width - 8)), int(rng.integers(8, height - 8))
        axes = int(rng.integers(8, width // 4)), int(rng.integers(8, height // 4))
        cv2.ellipse(mask, centre, axes, int(rng.integers(0, 180)), 0, 360, 1, -1)
    truth = BitMasks(torch.from_numpy(masks > 0))
    instances = Instances(
        size,
        gt_masks=truth,
        gt_boxes=truth.get_bounding_boxes(),
        gt_classes=torch.from_numpy(rng.integers(0, classes, objects)),
    )
    generator = torch.Generator().manual_seed(seed)
    image = torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=generator)
    return {"image": image, "instances": instances, "height": height, "width": width}


def with_mask_tensors(item: dict[str, Any]) -> dict[str, Any]:
    """Return an item as MaskFormer's own data loader gives it: masks as a plain tensor."""
    given = item["instances"]
    instances = Instances(given.image_size, gt_classes=given.gt_classes)
    instances.gt_masks = given.gt_masks.tensor
    return {**item, "instances": instances}
