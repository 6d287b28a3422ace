"""Measure what the choices of a recipe depend on in a dataset.

N images, G objects.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data.formats.coco_file import CocoFile
from ..data.formats.crowds import OBJECTS
from ..data.loading.images import Header, read_header
from ..errors import DataError
from ..pictures.formats import parse_format

_OPENED = 20  # image files whose channels and depth are looked at, at most


@dataclass(frozen=True)
class Fingerprint:
    """What a dataset of instances is like.

    Attributes:
        image_sizes: [N], (height, width) in pixels.
        object_boxes: [G], (height, width) of each object's box in pixels of the file.
        object_images: [G], the index of each object's image.
        images_of_class: the number of images that have objects of each class, by its name; classes
            without objects have 0.
        channels: how many channels the files have, each number once, ascending.
        is_deep: whether some files have more than 8 bits.
    """

    image_sizes: tuple[tuple[int, int], ...]
    object_boxes: tuple[tuple[float, float], ...]
    object_images: tuple[int, ...]
    images_of_class: dict[str, int]
    channels: tuple[int, ...] = (3,)
    is_deep: bool = False

    @property
    def num_images(self) -> int:
        """Number of images."""
        return len(self.image_sizes)

    @property
    def sides(self) -> np.ndarray:
        """float64 [G], sqrt(width x height) of each box, in pixels of the file."""
        return np.sqrt(np.prod(self._boxes, axis=1))

    @property
    def lengths(self) -> np.ndarray:
        """float64 [G], the longer side of each box, in pixels of the file."""
        return self._boxes.max(axis=1)

    @property
    def _boxes(self) -> np.ndarray:
        return np.array(self.object_boxes, np.float64).reshape(-1, 2)

    @property
    def objects_per_image(self) -> np.ndarray:
        """int64 [N]."""
        return np.bincount(np.array(self.object_images, np.int64), minlength=self.num_images)

    @property
    def contents(self) -> str:
        """What the images show, in words."""
        learnt = sum(count > 0 for count in self.images_of_class.values())
        return (
            f"{len(self.object_boxes)} objects, at most {int(self.objects_per_image.max())} in an "
            f"image; {learnt} of {len(self.images_of_class)} classes have objects"
        )

    def resized(self, short_edge: int, max_size: int) -> np.ndarray:
        """Return the factor by which detectron2's ResizeShortestEdge enlarges each object's image.

        Args:
            short_edge: the length of the short edge, in pixels.
            max_size: the greatest length of the long edge.

        Returns:
            float64 [G].
        """
        sizes = np.array(self.image_sizes, np.float64)[list(self.object_images)].reshape(-1, 2)
        return np.minimum(short_edge / sizes.min(axis=1), max_size / sizes.max(axis=1))


def measure(file: CocoFile, crowd: str = "", paths: Iterable[str] = ()) -> Fingerprint:
    """Return the fingerprint of a dataset.

    Args:
        file: the dataset, as training reads it.
        crowd: "objects" to treat crowds as objects, or "".
        paths: its image files; the channels of the first are looked at.

    Raises:
        DataError: an id or a value can't be used, or no object can be learnt.
    """
    places = {image["id"]: place for place, image in enumerate(file.images)}
    names = {category["id"]: str(category["name"]) for category in file.categories}
    objects = [item for item in file.usable if crowd == OBJECTS or not item.get("iscrowd")]
    boxes, images, seen = [], [], set()
    for item in objects:
        place = places[item["image_id"]]
        size = _inside(item["bbox"], file.images[place])
        if min(size) > 0:
            boxes.append(size)
            images.append(place)
            seen.add((item["category_id"], place))
    if not boxes:
        raise DataError(f"{file.source} has no objects with masks: there is nothing to learn.")
    counts = Counter(category for category, _ in seen)
    channels, is_deep = look_at_files(paths)
    return Fingerprint(
        image_sizes=tuple((int(i["height"]), int(i["width"])) for i in file.images),
        object_boxes=tuple(boxes),
        object_images=tuple(images),
        images_of_class={name: counts[key] for key, name in names.items()},
        channels=channels,
        is_deep=is_deep,
    )


def look_at_files(paths: Iterable[str]) -> tuple[tuple[int, ...], bool]:
    """Return how many channels the first image files have, and whether some have over 8 bits."""
    headers = [_header(path) for path in list(paths)[:_OPENED]]
    channels = tuple(sorted({header.channels for header in headers})) or (3,)
    return channels, any(header.is_deep for header in headers)


def _inside(box: Any, image: dict[str, Any]) -> tuple[float, float]:
    """Return the height and width of the part of a box, x y w h, that is inside its image."""
    left, top, width, height = map(float, box)
    bottom, right = min(top + height, image["height"]), min(left + width, image["width"])
    return max(0.0, bottom - max(0.0, top)), max(0.0, right - max(0.0, left))


def _header(path: str) -> Header:
    # In this format the header has the file's own channels, and not the three that they become.
    return read_header(path, parse_format("RGBA"))
