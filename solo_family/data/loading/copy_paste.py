"""Choose what copy-paste takes, and on which image (Ghiasi et al., arXiv 2012.07177, section 3)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from detectron2.data.samplers import RepeatFactorTrainingSampler
from torch.utils.data import Dataset

from .paste import paste

Record = dict[str, Any]
# Maps detectron2's dict of an image to the model's input; None asks for another image instead.
Mapper = Callable[[Record], Record | None]


@dataclass(frozen=True)
class Objects:
    """Where a dict of detectron2's has the objects that can be pasted.

    Attributes:
        key: "annotations" or, for panoptic labels, "segments_info".
        stuff: the classes of segments that are no objects, where a segment does not say so itself.
    """

    key: str
    stuff: tuple[int, ...] = ()

    def of(self, record: Record) -> list[dict[str, Any]]:
        """Return the objects of an image: neither crowds nor stuff."""
        return [one for one in record.get(self.key, []) if self._is_object(one)]

    def _is_object(self, one: dict[str, Any]) -> bool:
        is_thing = one.get("isthing", one["category_id"] not in self.stuff)
        return is_thing and not one.get("iscrowd", 0)


class CopyPaste:
    """Paste random objects of another training image on an image.

    The other image is mapped as any training image is, but with the chosen objects alone. Every
    random number is numpy's, whose generator `TrainingImages` seeds for each image.

    Args:
        mapper: maps the dict of the other image.
        objects: where the dicts have their objects.
        records: detectron2's dicts of all training images; see `__call__`.
        prob: the probability that objects are pasted on an image.
        max_objects: the greatest number of objects that are pasted on an image.
        repeat_threshold: images of a class that fewer than this share of the images have are taken
            more often, by their repeat factors (LVIS, arXiv 1908.03195, appendix B.2); 0 takes all
            equally often.
        blend: see `paste`.
        min_visible: see `paste`.
    """

    def __init__(
        self,
        mapper: Mapper,
        objects: Objects,
        records: Sequence[Record],
        *,
        prob: float = 1.0,
        max_objects: int = 100,
        repeat_threshold: float = 0.0,
        blend: float = 0.0,
        min_visible: float = 0.0,
    ) -> None:
        self._mapper = mapper
        self._objects = objects
        self._weights = _weights([objects.of(record) for record in records], repeat_threshold)
        self._prob = prob
        self._max_objects = max_objects
        self._blend = blend
        self._min_visible = min_visible

    @classmethod
    def from_config(
        cls, cfg: CfgNode, mapper: Mapper, objects: Objects, records: Sequence[Record]
    ) -> "CopyPaste":
        """Return the one that `INPUT.COPY_PASTE` describes; the other arguments are as above."""
        keys = cfg.INPUT.COPY_PASTE
        return cls(
            mapper,
            objects,
            records,
            prob=keys.PROB,
            max_objects=keys.MAX_OBJECTS,
            repeat_threshold=keys.REPEAT_THRESHOLD,
            blend=keys.BLEND,
            min_visible=keys.MIN_VISIBLE,
        )

    def __call__(
        self, data: Record, index: int, records: Sequence[Record] | Dataset[Record]
    ) -> Record:
        """Return an image with pasted objects; or as it is, where none were drawn.

        Args:
            data: the mapped image, which is not changed; see `paste`.
            index: of its dict. Its own objects are taken only if no other image has any.
            records: the dicts that `__init__` has seen, in any form that takes less memory.

        Raises:
            DataError: the other image can't be read, and may not be skipped.
        """
        if np.random.rand() >= self._prob:
            return data
        source = self._draw(index)
        if source is None:
            return data
        taken = self._mapper(self._with_some_objects(records[source]))
        if taken is None:
            return data
        pasted = paste(data, taken, blend=self._blend, min_visible=self._min_visible)
        if "num_skipped" not in data:
            return pasted
        return {**pasted, "num_skipped": data["num_skipped"] + taken.get("num_skipped", 0)}

    def _draw(self, index: int) -> int | None:
        """Draw the image to take objects from; None if no image has any."""
        weights = self._weights.copy()
        weights[index] = 0
        if not weights.any():
            weights = self._weights
        total = weights.cumsum()
        if not total[-1]:
            return None
        return int(np.searchsorted(total, np.random.rand() * total[-1], side="right"))

    def _with_some_objects(self, record: Record) -> Record:
        """Return a dict with a random number of its objects, at least one, in their order."""
        objects = self._objects.of(record)
        count = np.random.randint(1, min(len(objects), self._max_objects) + 1)
        chosen = np.sort(np.random.permutation(len(objects))[:count])
        return {**record, self._objects.key: [objects[place] for place in chosen]}


def _weights(objects: Sequence[list[dict[str, Any]]], threshold: float) -> np.ndarray:
    """Return how often each image is taken, float64; one without objects never is."""
    weights = np.array([float(bool(some)) for some in objects])
    if threshold:
        weights *= RepeatFactorTrainingSampler.repeat_factors_from_category_frequency(
            [{"annotations": some} for some in objects], threshold
        ).numpy()
    return weights
