"""What was predicted for a picture, as the files of results have it.

Shape letters: N instances, H W of the picture, K classes.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.data import Metadata
from detectron2.structures import Instances
from pycocotools import mask as mask_util

from ..evaluation.instance_results import instance_results
from ..ops.label_maps import class_of_pixels
from ..ops.rle import encode_masks


class Classes:
    """The classes of a model: their names, and their ids in the dataset.

    Args:
        metadata: detectron2's, with any of `thing_classes`, `stuff_classes`,
            `thing_dataset_id_to_contiguous_id`, `stuff_dataset_id_to_contiguous_id`, and
            `stuff_labels`, the indices of classes that are stuff.

    Attributes:
        names: in the order of the model's outputs; empty if they have none.
    """

    def __init__(self, metadata: Metadata) -> None:
        named = metadata.get("thing_classes") or metadata.get("stuff_classes") or []
        self.names: list[str] = [str(name) for name in named]
        ids = metadata.get("thing_dataset_id_to_contiguous_id") or {}
        stuff = metadata.get("stuff_dataset_id_to_contiguous_id") or {}
        self._stuff = set(stuff.values()) - set(ids.values())
        self._stuff |= set(metadata.get("stuff_labels") or [])
        self._ids = {label: identity for identity, label in {**stuff, **ids}.items()}

    def name(self, label: int) -> str:
        """Return the name of a class, its index if it has none."""
        return self.names[label] if label < len(self.names) else str(label)

    def id(self, label: int) -> int:
        """Return the id of a class in the dataset, its index if the dataset is unknown."""
        return int(self._ids.get(label, label))

    def is_thing(self, label: int) -> bool:
        """Return whether the dataset has the class as a thing, or doesn't say."""
        return label not in self._stuff

    def categories(self, seen: Iterable[int] = ()) -> list[dict[str, Any]]:
        """Return COCO's categories: all classes, and those of `seen` that have no names."""
        labels = sorted({*range(len(self.names)), *seen})
        return [{"id": self.id(label), "name": self.name(label)} for label in labels]


@dataclass(frozen=True)
class SavedInstance:
    """An instance.

    Attributes:
        label: index of its class.
        score: 0 to 1.
        box: x, y, width and height in pixels.
        rle: its mask, in COCO's compressed RLE.
        track: its number in a video, from 1; None if it has none.
    """

    label: int
    score: float
    box: list[float]
    rle: dict[str, Any]
    track: int | None = None

    @property
    def area(self) -> int:
        """The number of pixels of the mask."""
        return int(mask_util.area(self.rle))

    def crop(self) -> tuple[np.ndarray, int, int]:
        """Return the mask's box, bool, and its left and top side; empty for an empty mask."""
        left, top, width, height = (round(side) for side in mask_util.toBbox(self.rle).tolist())
        mask = mask_util.decode(self.rle)[top : top + height, left : left + width]
        return mask.astype(bool), left, top


@dataclass(frozen=True)
class Picture:
    """A picture or a frame of a video, and what was predicted for it.

    Attributes:
        image_id: its position in the input, from 1.
        name: without folder and suffix; no other picture has it.
        file_name: relative to the folder that all pictures are in.
        path: of its file; None if it has none of its own, as a frame.
        where: the keys that identify it in COCO results.
        image: uint8 [H, W, 3], BGR.
        instances: descending by score; None if the model predicts none.
        labels: the class of each pixel, int [H, W], at least K for none; None if the model does not
            predict it.
        segments: panoptic segments: ids, int [H, W], and each id's `id`, `category_id` (the class),
            `isthing`, and perhaps `score`; None if the model predicts none.
        is_known: whether an earlier run has begun to save it.
    """

    image_id: int
    name: str
    file_name: str
    path: Path | None
    where: dict[str, Any]
    image: np.ndarray
    instances: list[SavedInstance] | None = None
    labels: np.ndarray | None = None
    segments: tuple[np.ndarray, list[dict[str, Any]]] | None = None
    is_known: bool = False

    @property
    def size(self) -> dict[str, int]:
        """Height and width in pixels."""
        height, width = self.image.shape[:2]
        return {"height": height, "width": width}


def predicted(predictions: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of `Picture` that hold predictions.

    Args:
        predictions: detectron2's dict, on the CPU. If it has a panoptic segmentation and no
            instances, the segments of things are the instances.
    """
    found: dict[str, Any] = {}
    if "sem_seg" in predictions:
        found["labels"] = class_of_pixels(predictions["sem_seg"]).numpy()
    if "panoptic_seg" in predictions:
        segments, infos = predictions["panoptic_seg"]
        if infos is not None:
            found["segments"] = segments.numpy(), infos
            found["instances"] = _things(segments, infos)
    if "instances" in predictions:
        found["instances"] = _instances(predictions["instances"])
    return found


def _instances(instances: Instances) -> list[SavedInstance]:
    results = instance_results(instances, 0)
    tracks: list[int | None] = [None] * len(results)
    if instances.has("track_ids"):
        tracks = [track if track > 0 else None for track in instances.track_ids.tolist()]
    found = [
        SavedInstance(item["category_id"], item["score"], item["bbox"], item["segmentation"], track)
        for item, track in zip(results, tracks, strict=True)
    ]
    return sorted(found, key=lambda instance: -instance.score)


def _things(segments: torch.Tensor, infos: list[dict[str, Any]]) -> list[SavedInstance]:
    things = [info for info in infos if info.get("isthing", True)]
    found = []
    for info in things:
        (rle,) = encode_masks((segments == info["id"])[None])
        box = mask_util.toBbox(rle).tolist()
        found.append(SavedInstance(int(info["category_id"]), info.get("score", 1.0), box, rle))
    return sorted(found, key=lambda instance: -instance.score)


def disjoint_segments(instances: list[SavedInstance], size: tuple[int, int]) -> np.ndarray:
    """Return the index of each pixel's instance, plus 1; 0 for none.

    A pixel in several instances belongs to the one with the highest score.

    Args:
        instances: descending by score.
        size: (H, W) of the picture.

    Returns:
        int32 [H, W].
    """
    owner = np.zeros(size, np.int32)
    for number in range(len(instances), 0, -1):
        mask, left, top = instances[number - 1].crop()
        owner[top : top + mask.shape[0], left : left + mask.shape[1]][mask] = number
    return owner
