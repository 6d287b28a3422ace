"""A model for the page: bright regions are objects, scored by their brightness."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from detectron2.data import Metadata
from detectron2.structures import Instances
from PIL import Image

from solo_family.cli.web.model import WebModel
from solo_family.data.loading.images import Reading
from solo_family.predictor.predictions import Predictions
from solo_family.predictor.sources import Source

NAMES = ["low", "high"]
METADATA = Metadata(
    thing_classes=NAMES,
    stuff_classes=NAMES,
    thing_dataset_id_to_contiguous_id={10: 0, 20: 1},
)
H, W = 48, 64
# Of brightness 255 and 153, which are scores of 1 and 0.6; class 1 is left, 0 right of the middle.
BRIGHT, FAINT = (slice(10, 34), slice(4, 24)), (slice(5, 15), slice(40, 60))


def scene() -> np.ndarray:
    """A picture with a bright and a faint region."""
    image = np.zeros((H, W, 3), np.uint8)
    image[BRIGHT], image[FAINT] = 255, 153
    return image


def save(path: Path, image: np.ndarray) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
    return str(path)


def find_instances(image: np.ndarray) -> Predictions:
    gray = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    count, labels = cv2.connectedComponents((gray > 100).astype(np.uint8))
    masks = labels[None] == np.arange(1, count)[:, None, None]
    scores = [float(gray[mask].mean()) / 255 for mask in masks]
    order = np.argsort(scores)[::-1].astype(np.int64)
    left = [bool(mask[:, : gray.shape[1] // 2].any()) for mask in masks]
    instances = Instances(
        gray.shape,
        pred_masks=torch.from_numpy(masks[order]),
        scores=torch.tensor(scores)[order.copy()],
        pred_classes=torch.tensor([int(left[place]) for place in order], dtype=torch.int64),
    )
    return {"instances": instances}


def find_classes(image: np.ndarray) -> Predictions:
    gray = torch.from_numpy(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)).float()
    return {"sem_seg": torch.stack([100 - gray, gray - 100])}


def find_segments(image: np.ndarray) -> Predictions:
    instances = find_instances(image)["instances"]
    segments = torch.zeros(image.shape[:2], dtype=torch.int32)
    infos: list[dict[str, Any]] = []
    for mask, score, label in zip(
        instances.pred_masks, instances.scores.tolist(), instances.pred_classes.tolist()
    ):
        infos.append({"id": len(infos) + 1, "category_id": label, "isthing": True, "score": score})
        segments[mask] = len(infos)
    return {"panoptic_seg": (segments, infos)}


def web_model(
    find: Callable[[np.ndarray], Predictions] = find_instances,
    reading: Reading | None = None,
    **options: Any,
) -> WebModel:
    model = Source(lambda images: [find(image) for image in images], METADATA, reading or Reading())
    return WebModel(model, name="regions", **options)
