"""Choose the size of the network's input: short edges, and windows of large images.

G objects.
"""

from dataclasses import dataclass, replace
from math import ceil

import numpy as np

from .choice import Choice
from .fingerprint import Fingerprint
from .machine import Machine

# The short edge of the measured recipes (configs/benchmarks): 320 on a CPU. The published one is
# 800, at most 1333 long, on GPUs.
_EDGE_CPU, _EDGE_GPU = 320, 640
_LARGEST = 800
# The measured recipes' range of short edges in training, as shares of the short edge of the test.
_SHARES = (0.8, 0.9, 1.0, 1.1)
_MULTIPLE = 16
_SMALLEST = 96
_LEAST_TILE = 64  # of TEST.TILE.SIZE
_OVERLAP = 4  # neighbouring windows share this part of their side
ENLARGED = 2.0  # images are enlarged by at most this factor
# An object should be this many pixels of the masks wide, for all but the smallest twentieth.
_MASK_PIXELS = 2.0
_SMALL = 5  # percentile
# SOLOv2 with Lite0 learns 4 images of 320 x 400 in 1.47 s on two cores (docs/results.md).
_PIXELS_PER_SECOND_AND_CORE = 170_000
# A tenth of what docs/performance.md has of an H100.
_PIXELS_PER_SECOND_GPU = 5_000_000
# Training takes 1.2 to 1.7 KB for each pixel (docs/performance.md): room for methods that take
# more, and for half of the memory to be in use already.
_BYTES_PER_PIXEL = 8192
_FEWEST_ITERATIONS = 300  # that the time should suffice for
BATCH = 4
# Of the long edge to the short one, at most that of the published 1333 x 800: longer images
# become smaller. Of the images' own, all but the longest quarter count.
MAX_ASPECT = 1333 / 800
_LONG = 75  # percentile


@dataclass(frozen=True)
class InputSize:
    """The size of the network's input.

    Attributes:
        edges: short edges in training, ascending.
        test_edge: the short edge in inference.
        max_size: the greatest length of the long edge.
        window: the side of the square windows that images are cut into, in pixels of the files; 0
            for whole images.
        batch: images per iteration.
        tiles: the number of windows that the median image is cut into in inference.
        small: the smallest sides (percentile 5) of objects at `test_edge`, in pixels.
        pixels: of the median image at `test_edge`, times the images of an iteration.
        choices: the lines of the config.
    """

    edges: tuple[int, ...]
    test_edge: int
    max_size: int
    window: int
    batch: int
    tiles: int
    small: float
    pixels: float
    choices: tuple[Choice, ...]

    def factors(self, data: Fingerprint, short_edge: int) -> np.ndarray:
        """Return by which factor each object is resized at a short edge, float64 [G]."""
        if self.window:
            return np.full(len(data.object_images), short_edge / self.window)
        return data.resized(short_edge, self.max_size)


def input_size(data: Fingerprint, machine: Machine, minutes: float, stride: int) -> InputSize:
    """Choose the input's size.

    The measured recipes' short edge, or a larger one where small objects would be less than two
    pixels of a mask, as far as time and memory allow; windows where they don't.

    Args:
        data: what the images are like.
        machine: what trains.
        minutes: how long.
        stride: of the method's masks, in pixels of the input.
    """
    sizes = np.array(data.image_sizes, np.float64)
    short, aspects = float(np.median(sizes.min(1))), sizes.max(1) / sizes.min(1)
    aspect = min(float(np.median(aspects)), MAX_ASPECT)
    longest = min(float(np.percentile(aspects, _LONG)), MAX_ASPECT)
    small = float(np.percentile(data.sides, _SMALL))
    pixels = _pixels(machine, minutes)
    batch = BATCH if pixels / BATCH >= _area(_EDGE_CPU, aspect) / 2 else BATCH // 2
    affordable = min(_LARGEST, (pixels / batch / aspect) ** 0.5 / _SHARES[-1])
    usual = _EDGE_GPU if machine.gpu else _EDGE_CPU
    wanted = max(usual, _MASK_PIXELS * stride / small * short)
    edge = _rounded(min(wanted, affordable, ENLARGED * short))
    window = 0
    if small * edge / short < _MASK_PIXELS * stride and edge < wanted and edge < short:
        window = _window(data, edge, _MASK_PIXELS * stride / small)
        if window >= short:
            window = 0
    scale = edge / window if window else edge / short
    edges = tuple(sorted({_rounded(edge * share) for share in _SHARES}))
    max_size = edges[-1] if window else _rounded(edges[-1] * longest)
    why = _reason(edge, usual, wanted, affordable, short)
    tiles = num_tiles(np.median(sizes, axis=0), window) if window else 1
    pixels = batch * _area(edge, 1.0 if window else aspect)
    found = InputSize(edges, edge, max_size, window, batch, tiles, small * scale, pixels, ())
    return replace(found, choices=tuple(_choices(found, why, stride)))


def _pixels(machine: Machine, minutes: float) -> float:
    """Return how many pixels the images of an iteration may have together."""
    return min(memory_pixels(machine), minutes * 60 * speed(machine) / _FEWEST_ITERATIONS)


def memory_pixels(machine: Machine) -> float:
    """Return for how many pixels of an iteration the memory suffices."""
    return (machine.gpu_memory if machine.gpu else machine.memory) * 2**30 / _BYTES_PER_PIXEL


def speed(machine: Machine) -> float:
    """Return how many pixels a second the machine learns, about."""
    return _PIXELS_PER_SECOND_GPU if machine.gpu else machine.cores * _PIXELS_PER_SECOND_AND_CORE


def _window(data: Fingerprint, edge: int, scale: float) -> int:
    """Return the side of a window that, resized to `edge`, shows small objects large enough.

    It is at least twice as long as most objects, so that these fit into one.
    """
    side = max(edge / scale, 2 * float(np.percentile(data.lengths, 95)))
    return max(_LEAST_TILE, int(side / _MULTIPLE) * _MULTIPLE)


def num_tiles(size: np.ndarray, window: int) -> int:
    """Return how many windows, a quarter of which overlaps the next, cover (height, width)."""
    step = window - window // _OVERLAP
    rows, columns = (1 + max(0, ceil((length - window) / step)) for length in size)
    return rows * columns


def _area(edge: float, aspect: float) -> float:
    return edge * edge * aspect


def _rounded(length: float) -> int:
    return max(_SMALLEST, round(length / _MULTIPLE) * _MULTIPLE)


def _reason(edge: int, usual: float, wanted: float, affordable: float, short: float) -> str:
    if edge >= wanted - _MULTIPLE:
        if wanted > usual:
            return "so that small objects are two pixels of a mask"
        return "the short edge of the measured recipes"
    if ENLARGED * short <= affordable:
        return f"twice the images' {short:.0f} pixels: more would show nothing new"
    return "as large as the time and the memory allow"


def _choices(size: InputSize, why: str, stride: int) -> list[Choice]:
    smallest = f"small objects have {size.small:.0f} pixels, and masks one in {stride}"
    choices = [
        Choice("INPUT.MIN_SIZE_TRAIN", list(size.edges), f"0.8 to 1.1 of the test's; {smallest}"),
        Choice("INPUT.MAX_SIZE_TRAIN", size.max_size, "the long edge of three in four images"),
        Choice("INPUT.MIN_SIZE_TEST", size.test_edge, why),
        Choice("INPUT.MAX_SIZE_TEST", size.max_size, "as in training"),
    ]
    why = "windows: in whole images small objects would be too small"
    return [*choices, *cut_choices(size.window, why, "merged")]


def cut_choices(window: int, why: str, put_together: str) -> list[Choice]:
    """Choose to train and to predict by windows.

    Args:
        window: their side, in pixels of the files; 0 for whole images.
        why: the reason for windows.
        put_together: what becomes of their results.
    """
    if not window:
        return []
    return [
        Choice("INPUT.CROP.AROUND_OBJECTS", [window, window], why),
        Choice("TEST.TILE.SIZE", window, f"the same windows, whose results are {put_together}"),
        Choice("TEST.TILE.OVERLAP", window // _OVERLAP, "a quarter of a window"),
    ]
