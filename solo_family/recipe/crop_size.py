"""Choose the crops that semantic segmentation learns, and the size of the images they are cut from.

K classes.
"""

from dataclasses import dataclass, replace
from math import ceil

import numpy as np

from .choice import Choice
from .label_fingerprint import LabelFingerprint
from .machine import Machine
from .sizes import BATCH, ENLARGED, MAX_ASPECT, cut_choices, memory_pixels, num_tiles, speed

# configs/benchmarks/Base-CamVid.yaml: crops of 216 x 288, of images with short edges of 0.6 to 1.2
# of the test's 360, so that the smallest are as high as the crop.
_CROP_AREA = 216 * 288
_SHARES = (0.6, 0.8, 1.0, 1.2)
# What these were measured with: 20 minutes on two cores of the usual speed.
_MINUTES, _USUAL = 20, Machine(cores=2, memory=16)
_LARGEST_AREA = 512 * 1024  # the published crop of Cityscapes, the largest
_LEAST_AREA = 96 * 96
_MULTIPLE = 32  # the coarsest stride, to which inputs are padded
_ROUND = 8
_LEAST_EDGE = 128
# The median region of each class should be two pixels of the masks, at stride 4, wide.
_LEAST_SIDE = 2 * 4
# Of images more than so many times as large as the crop, windows are read.
_MOST_CROPS = 8
_LEAST_WINDOW = 64
# Scores of K classes, float32, twice; they may take this part of the memory.
_BYTES_PER_SCORE, _SCORES = 8, 1 / 4


@dataclass(frozen=True)
class CropSize:
    """The size of the network's input.

    Attributes:
        edges: short edges in training, ascending.
        test_edge: the short edge in inference.
        max_train, max_test: the greatest lengths of the long edge.
        crop: (height, width) of the crops.
        window: the side of the square windows that images are cut into first, in pixels of the
            files; 0 for whole images.
        evaluated: how many crops have as many pixels as the inputs that the median image takes in
            inference.
        choices: the lines of the config.
    """

    edges: tuple[int, ...]
    test_edge: int
    max_train: int
    max_test: int
    crop: tuple[int, int]
    window: int
    evaluated: float
    choices: tuple[Choice, ...] = ()


def crop_size(data: LabelFingerprint, machine: Machine, minutes: float) -> CropSize:
    """Choose the crops and the size of the images.

    The crop's area grows with the root of what the time and the machine allow: the other half of it
    goes into iterations. Images have the measured ratio to the crop, but at least the size at which
    the regions of every class are two pixels of a mask wide, and at most their own; very small ones
    are enlarged. Of images that are much larger than a crop, or whose scores take too much memory,
    windows are learnt and predicted.

    Args:
        data: what the images are like.
        machine: what trains.
        minutes: how long.
    """
    sizes = np.array(data.image_sizes, np.float64)
    height, width = np.median(sizes, axis=0)
    short = float(np.median(sizes.min(1)))
    aspect = min(max(height, width) / min(height, width), MAX_ASPECT)
    area = _area(machine, minutes)
    usual = (area / aspect) ** 0.5 / _SHARES[0]
    name, side = data.smallest_class
    edge = min(max(usual, _LEAST_SIDE / side * short), short)
    edge = max(edge, min(_LEAST_EDGE, ENLARGED * short))
    longest = float((sizes.max(1) / sizes.min(1)).max())
    edge = _rounded(min(edge, (memory_pixels(machine) / aspect) ** 0.5), short)
    window = _window(data, machine, edge / short, min(usual, edge), area)
    if window:
        edge, longest = _rounded(min(usual, edge), window), 1.0
    else:
        longest = min(longest, memory_pixels(machine) / edge**2)
    shape = (1.0, 1.0) if window else (height / short, width / short)
    edges = tuple(round(edge * share) for share in _SHARES)
    crop = _crop(area, (height, width), [edges[-1] * length for length in shape])
    count = num_tiles(np.array([height, width]), window) if window else shape[0] * shape[1]
    found = CropSize(
        edges=edges,
        test_edge=edge,
        max_train=_longest(edges[-1], longest),
        max_test=_longest(edge, longest),
        crop=crop,
        window=window,
        evaluated=count * edge**2 / (crop[0] * crop[1]),
    )
    return replace(found, choices=tuple(_choices(found, _reason(edge, window, short, name, usual))))


def _area(machine: Machine, minutes: float) -> float:
    """Return the area of a crop, in pixels of the input."""
    allowed = minutes * speed(machine) / (_MINUTES * speed(_USUAL))
    most = min(_LARGEST_AREA, memory_pixels(machine) / BATCH)
    return max(_LEAST_AREA, min(most, _CROP_AREA * allowed**0.5))


def _rounded(edge: float, own: float) -> int:
    """Return a short edge in whole pixels: the images' own where it is that."""
    return int(own) if edge == own else max(_ROUND, round(edge / _ROUND) * _ROUND)


def _window(
    data: LabelFingerprint, machine: Machine, scale: float, edge: float, area: float
) -> int:
    """Return the side of the windows, in pixels of the files; 0 for whole images.

    Args:
        data: what the images are like.
        machine: what trains.
        scale: by which images are resized.
        edge: that a window is resized to.
        area: of a crop.
    """
    sizes = np.array(data.image_sizes, np.float64)
    pixels, short = float(np.median(sizes.prod(1))), float(np.median(sizes.min(1)))
    memory = (machine.gpu_memory if machine.gpu else machine.memory) * 2**30
    side = edge / scale
    if pixels * len(data.pixels_of_class) * _BYTES_PER_SCORE > _SCORES * memory:
        side = min(side, short / 2)
    elif pixels * scale**2 <= _MOST_CROPS * area:
        return 0
    return max(_LEAST_WINDOW, int(side / _ROUND) * _ROUND) if side < short else 0


def _crop(area: float, shape: tuple[float, float], largest: list[float]) -> tuple[int, int]:
    """Return a crop of an area, of the images' shape unless they are long, within the largest."""
    ratio = shape[1] / shape[0]
    ratio = min(max(ratio, 1 / MAX_ASPECT), MAX_ASPECT)
    wanted = ((area / ratio) ** 0.5, (area * ratio) ** 0.5)
    height, width = (
        max(_MULTIPLE, min(round(side / _MULTIPLE), ceil(most / _MULTIPLE)) * _MULTIPLE)
        for side, most in zip(wanted, largest)
    )
    return height, width


def _longest(edge: int, aspect: float) -> int:
    return max(edge, ceil(edge * aspect - 1e-6))


def _reason(edge: int, window: int, short: float, name: str, usual: float) -> str:
    if window:
        return "of a window"
    if edge > short:
        return f"the images' {short:.0f} pixels are few"
    if edge == int(short):
        return "the images' own size"
    if edge > usual + _ROUND:
        return f"the regions of {name} are two pixels of a mask wide"
    return "the measured recipe's ratio to the crop"


def _choices(size: CropSize, why: str) -> list[Choice]:
    limit = "of the longest images" if not size.window else "of windows, which are square"
    choices = [
        Choice("INPUT.MIN_SIZE_TRAIN", list(size.edges), "0.6 to 1.2 of the test's"),
        Choice("INPUT.MAX_SIZE_TRAIN", size.max_train, limit),
        Choice("INPUT.MIN_SIZE_TEST", size.test_edge, why),
        Choice("INPUT.MAX_SIZE_TEST", size.max_test, limit),
        Choice("INPUT.CROP.ENABLED", True, "a random part of each image"),
        Choice("INPUT.CROP.TYPE", "absolute", "in pixels"),
        Choice("INPUT.CROP.SIZE", list(size.crop), "height and width, as the time allows"),
    ]
    why = "windows around a random class: the images are large"
    return [*choices, *cut_choices(size.window, why, "blended")]
