"""Selection of predictions before they are drawn and saved.

Shape letters: N instances, H W of the picture, K classes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
import torch
from detectron2.structures import BitMasks, Boxes, Instances

from ..class_maps import made
from ..errors import ConfigError
from ..ops.label_maps import class_of_pixels
from ..ops.run_masks import RunMasks, whole_runs
from ..tiling.merge_semantic import LabelMap


@dataclass(frozen=True)
class Filters:
    """Which predictions are kept.

    Attributes:
        labels: the classes that are kept; None for all.
        min_size: the fewest pixels of an instance or segment.
        no_overlap: let a pixel belong only to the instance with the highest score.
    """

    labels: tuple[int, ...] | None = None
    min_size: int = 0
    no_overlap: bool = False

    def __call__(self, predictions: dict[str, Any]) -> dict[str, Any]:
        """Return the predictions, detectron2's dict on the CPU, that are kept."""
        kept = dict(predictions)
        if "instances" in kept:
            kept["instances"] = self._instances(kept["instances"])
        if "panoptic_seg" in kept:
            ids, infos = kept["panoptic_seg"]
            kept["panoptic_seg"] = self._segments(ids, infos)
        if "sem_seg" in kept and self.labels is not None:
            kept["sem_seg"] = self._scores(kept["sem_seg"])
        return kept

    def _instances(self, instances: Instances) -> Instances:
        if self.labels is not None:
            labels: Any = torch.tensor(self.labels, dtype=torch.int64, device="cpu")
            kept: Any = torch.isin(instances.pred_classes, labels)
            instances = instances[kept]
        if self.no_overlap:
            instances = disjoint(instances)
        if self.min_size or self.no_overlap:
            masks = instances.pred_masks
            areas = [int(_pixels(masks, index).sum()) for index in range(len(masks))]
            large: Any = torch.tensor(
                [area >= max(self.min_size, 1) for area in areas], dtype=torch.bool, device="cpu"
            )
            instances = instances[large]
        return instances

    def _segments(self, ids: torch.Tensor, infos: Any) -> tuple[torch.Tensor, Any]:
        if infos is None or (self.labels is None and not self.min_size):
            return ids, infos
        kept = [
            info
            for info in infos
            if (self.labels is None or info["category_id"] in self.labels)
            and int((ids == info["id"]).sum()) >= self.min_size
        ]
        numbers = torch.tensor([info["id"] for info in kept], dtype=ids.dtype, device="cpu")
        return torch.where(torch.isin(ids, numbers), ids, ids.new_zeros(())), kept

    def _scores(self, scores: Any) -> Any:
        """Append a class K that wins in each pixel whose class, of 0 to K - 1, is not kept."""
        labels = torch.tensor(self.labels, dtype=torch.int64, device="cpu")
        if isinstance(scores, LabelMap):
            return scores.only(labels)
        scores = made(scores)
        dropped = ~torch.isin(class_of_pixels(scores), labels)
        none = scores.amax(dim=0) - 1
        return torch.cat([scores, torch.where(dropped, none + 2, none)[None]])


def disjoint(instances: Instances) -> Instances:
    """Return instances without common pixels: each belongs to the one with the highest score."""
    order = instances.scores.argsort(descending=True, stable=True).tolist()
    height, width = instances.image_size
    taken = np.zeros((height, width), bool)
    given = instances.pred_masks
    own: list[Any] = [None] * len(order)
    for index in order:
        mask = _pixels(given, index) & ~taken
        taken |= mask
        pixels = torch.from_numpy(mask)
        in_runs = isinstance(given, RunMasks)
        # A large image has no room for the pixels of all masks.
        own[index] = whole_runs(pixels[None])[0] if in_runs else pixels
    masks: Any
    if isinstance(given, RunMasks):
        masks = RunMasks(own, (height, width))
        boxes = Boxes(masks.boxes)
    else:
        masks = torch.stack(own) if own else given
        boxes = BitMasks(masks).get_bounding_boxes()
    fields = instances.get_fields() | {"pred_masks": masks, "pred_boxes": boxes}
    return Instances(instances.image_size, **fields)


def _pixels(masks: Any, index: int) -> np.ndarray:
    """Return a mask, bool [H, W], of detectron2's or of `RunMasks`."""
    (mask,) = masks[index : index + 1]
    return np.asarray(mask, bool)


def find_labels(given: Iterable[str | int], names: Sequence[str]) -> list[int]:
    """Return the labels of classes that are given by name or label.

    Raises:
        ConfigError: there is no such class.
    """
    labels = []
    for one in [given] if isinstance(given, str | int) else given:
        label = names.index(one) if one in names else one
        if isinstance(label, Integral) or (isinstance(label, str) and label.isdecimal()):
            label = int(label)  # numpy's integers are Integral, and not int
        if not isinstance(label, int) or (names and not 0 <= label < len(names)):
            raise ConfigError(
                f"classes has {one!r}; the model's classes are "
                f"{', '.join(names) or 'without names'}, or their labels, 0 to {len(names) - 1}. "
                "Name some of these."
            )
        labels.append(label)
    return labels
