"""What the choices of a recipe depend on where labels are pictures.

N images, G regions, K classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import sqrt

import numpy as np

from .fingerprint import Fingerprint


@dataclass(frozen=True)
class Region:
    """Pixels of an image that belong together: all of a class, or a panoptic segment.

    Attributes:
        label: the index of its class.
        pixels: how many.
    """

    label: int
    pixels: int


@dataclass(frozen=True)
class LabelFingerprint(Fingerprint):
    """What a dataset is like whose labels are pictures; its objects are the regions.

    The box of a region is a square of as many pixels. Classes are in the order of the labels.

    Attributes:
        pixels_of_class: the number of pixels of each class, by its name.
        sides_of_class: the median side of the regions of each class that occurs, in pixels of the
            file, by its name.
        unlabelled: the share of pixels without a class.
    """

    pixels_of_class: dict[str, int] = field(default_factory=dict)
    sides_of_class: dict[str, float] = field(default_factory=dict)
    unlabelled: float = 0.0

    @property
    def smallest_class(self) -> tuple[str, float]:
        """The class with the smallest regions, and their median side, in pixels of the file."""
        return min(self.sides_of_class.items(), key=lambda pair: pair[1])

    @property
    def contents(self) -> str:
        """What the images show, in words."""
        total = sum(self.pixels_of_class.values())
        rarest = min(self.sides_of_class, key=lambda name: self.pixels_of_class[name])
        percent = 100 * self.pixels_of_class[rarest] / total
        return (
            f"{len(self.object_boxes)} regions, at most {int(self.objects_per_image.max())} in an "
            f"image; {len(self.sides_of_class)} of {len(self.pixels_of_class)} classes occur, the "
            f"rarest, {rarest}, in {percent:.3g}% of the pixels; "
            f"{self.unlabelled:.1%} of the pixels have no class"
        )


def describe_regions(
    image_sizes: Sequence[tuple[int, int]],
    regions: Sequence[Sequence[Region]],
    classes: Sequence[str],
    channels: Sequence[int] = (3,),
    is_deep: bool = False,
) -> LabelFingerprint:
    """Return the fingerprint of images with regions, of which there is at least one.

    Args:
        image_sizes: [N], (height, width) in pixels.
        regions: [N], those of each image.
        classes: the K names of the labels 0, 1, 2, ...
        channels: how many the files have, see `Fingerprint`.
        is_deep: whether some files have more than 8 bits.
    """
    placed = [(place, region) for place, found in enumerate(regions) for region in found]
    pixels = dict.fromkeys(range(len(classes)), 0)
    sides: dict[int, list[float]] = {label: [] for label in pixels}
    images: dict[int, set[int]] = {label: set() for label in pixels}
    for place, region in placed:
        pixels[region.label] += region.pixels
        sides[region.label].append(sqrt(region.pixels))
        images[region.label].add(place)
    area = sum(height * width for height, width in image_sizes)
    return LabelFingerprint(
        image_sizes=tuple(image_sizes),
        object_boxes=tuple((sqrt(region.pixels),) * 2 for _, region in placed),
        object_images=tuple(place for place, _ in placed),
        images_of_class={classes[label]: len(found) for label, found in images.items()},
        channels=tuple(channels),
        is_deep=is_deep,
        pixels_of_class={classes[label]: count for label, count in pixels.items()},
        sides_of_class={classes[k]: float(np.median(found)) for k, found in sides.items() if found},
        unlabelled=1 - sum(pixels.values()) / area,
    )
