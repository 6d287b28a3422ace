"""Images whose objects are known, and a model that sees of each tile exactly what is there."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from detectron2.structures import Instances
from scipy import ndimage


@dataclass
class Scene:
    """Masks bool [N, H, W], classes and scores of an image."""

    masks: np.ndarray
    classes: np.ndarray
    scores: np.ndarray

    @property
    def size(self) -> tuple[int, int]:
        return self.masks.shape[1], self.masks.shape[2]


def scene(masks: Sequence[np.ndarray], classes: Sequence[int] | None = None) -> Scene:
    """Return a scene of these masks, whose scores differ."""
    count = len(masks)
    labels = np.zeros(count, int) if classes is None else np.array(classes)
    return Scene(np.stack(masks), labels, np.linspace(0.9, 0.5, count))


def crowd(seed: int, size: tuple[int, int], count: int) -> Scene:
    """Return discs of 2 to 40 pixels' radius, each on top of those before it, of 3 classes."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[: size[0], : size[1]]
    owner = np.full(size, -1)
    for index in range(count):
        radius = random.uniform(2, 40)
        y, x = random.uniform(0, size[0]), random.uniform(0, size[1])
        owner[(rows - y) ** 2 + (columns - x) ** 2 <= radius**2] = index
    left = [index for index in range(count) if (owner == index).any()]
    masks = [largest_part(owner == index) for index in left]
    return scene(masks, [int(index) % 3 for index in left])


def largest_part(mask: np.ndarray) -> np.ndarray:
    """Return the largest connected part: of others no tile may see that they belong to it."""
    parts, _ = ndimage.label(mask)
    return parts == np.bincount(parts.reshape(-1))[1:].argmax() + 1


def seen_in(scene: Scene, top: int, left: int, height: int, width: int) -> dict[str, Any]:
    """Return what a perfect model says of a part of a scene."""
    part = scene.masks[:, top : top + height, left : left + width]
    there = part.any(axis=(1, 2))
    return {
        "instances": Instances(
            (height, width),
            pred_masks=torch.from_numpy(part[there].copy()),
            scores=torch.from_numpy(scene.scores[there]).float(),
            pred_classes=torch.from_numpy(scene.classes[there]),
        )
    }
