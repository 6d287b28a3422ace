"""Choose which level learns which objects, and how many objects a method can find.

G objects.
"""

from math import ceil

import numpy as np

from .choice import Choice
from .fingerprint import Fingerprint
from .sizes import InputSize

# The measured recipes' first level ends at 56 pixels, at a short edge of 320.
_FIRST_END = 56 / 320
_LEAST_END = 16.0
_PUBLISHED_GRID = 40
_FINEST = 64
_FINEST_OF_SOLO = 48  # which has a mask for each of S x S cells
CROWDED = 20  # objects per image, from which on finer grids are worth their time
# Masks at stride 4 of at most 8 pixels are dropped by the area filter of the first levels.
_SAFE_OF_FILTER = 16.0
# InstanceFCN's windows are for objects of 128 / 224 of their side: 21 cells of 8 pixels as
# published, or 15 of 4 pixels as in configs/quickstart.
_WINDOW_OBJECT = 21 * 8 * 128 / 224
_SMALL_WINDOW_OBJECT = 15 * 4 * 128 / 224
_OCTAVE = 1.5
_MOST_SCALES = 5
_LEAST_SCALE = 32


def grid_choices(
    data: Fingerprint, most: int, size: InputSize, prefix: str, *, is_trained: bool
) -> list[Choice]:
    """Choose the levels of a method with grids, so that each object is on a level.

    Args:
        data: what the objects are like.
        most: the most objects of an image, of training or validation.
        size: of the input.
        prefix: of the method's keys, for instance "MODEL.SOLOV2".
        is_trained: whether weights are given, whose grids can't be changed.
    """
    low = data.sides * size.factors(data, size.edges[0])
    high = data.sides * size.factors(data, size.edges[-1])
    middle = float(np.median(data.sides * size.factors(data, size.test_edge)))
    end = max(_LEAST_END, min(_FIRST_END * size.test_edge, 2 * middle))
    ends = [round(end * 2**level) for level in range(5)]
    ends[-1] = max(ends[-1], ceil(1.1 * float(high.max())))
    starts = [min(1.0, float(np.floor(low.min() * 10) / 10)), *(side // 2 for side in ends[:-1])]
    ranges = [[start, end] for start, end in zip(starts, ends)]
    share = on_a_level(np.concatenate([low, high]), ranges)
    choices = [
        Choice(
            f"{prefix}.FPN_SCALE_RANGES",
            ranges,
            f"{share:.0%} of the objects are on a level; half of them are below {middle:.0f} px",
        )
    ]
    finest = _FINEST_OF_SOLO if prefix == "MODEL.SOLO" else _FINEST
    side = min(finest, max(_PUBLISHED_GRID, _cells(size)))
    if most >= CROWDED and side > _PUBLISHED_GRID and not is_trained:
        why = f"up to {most} objects in an image: a cell for each"
        grids = [side, max(36, side * 5 // 6), 24, 16, 12]
        choices.append(Choice(f"{prefix}.NUM_GRIDS", grids, why))
    if size.small < _SAFE_OF_FILTER:
        why = f"objects of {size.small:.0f} pixels are to be kept"
        choices.append(Choice(f"{prefix}.AREA_FILTER", False, why))
    if 5 * most > 500:
        why = f"five candidates for each of {most} objects"
        choices.append(Choice(f"{prefix}.NMS_PRE", 5 * most, why))
    return choices


def on_a_level(sides: np.ndarray, ranges: list[list[float]]) -> float:
    """Return the share of sides, [G], that at least one range, both ends inclusive, contains."""
    held = np.zeros(len(sides), bool)
    for low, high in ranges:
        held |= (sides >= low) & (sides <= high)
    return float(held.mean())


def _cells(size: InputSize) -> int:
    """Return how many cells of a small object's size stand side by side in the input."""
    return int(np.ceil(size.test_edge / max(1.0, size.small) / 4) * 4)


def slot_choices(most: int, key: str, usual: int, *, is_trained: bool) -> list[Choice]:
    """Choose the number of maps or queries, each of which finds one object at most.

    Args:
        most: the most objects of an image, of training or validation.
        key: of that number.
        usual: the measured recipe's.
        is_trained: whether weights are given, whose number stays.
    """
    if is_trained:
        return []
    count = max(usual, ceil(1.5 * most / 10) * 10)
    why = f"each finds one object, and an image has up to {most}"
    return [Choice(key, count, why)]


def window_choices(data: Fingerprint, size: InputSize, *, is_trained: bool) -> list[Choice]:
    """Choose the scales at which InstanceFCN's windows fit the objects; they replace short edges.

    Args:
        data: what the objects are like.
        size: of the input, whose largest edge is not exceeded.
        is_trained: whether weights are given, whose windows stay the published ones.
    """
    lengths = data.lengths * size.factors(data, size.test_edge) / size.test_edge
    small, large = np.percentile(lengths, [5, 95])
    is_small = not is_trained and _WINDOW_OBJECT / np.median(lengths) > size.edges[-1]
    object_size = _SMALL_WINDOW_OBJECT if is_small else _WINDOW_OBJECT
    first, last = (min(object_size / length, size.edges[-1]) for length in (large, small))
    count = min(_MOST_SCALES, 1 + ceil(np.log(last / first) / np.log(_OCTAVE) - 1e-9))
    step = (last / first) ** (1 / max(1, count - 1))
    scales = sorted({max(_LEAST_SCALE, round(first * step**index)) for index in range(count)})
    why = f"at one of these an object fits a window, which is for {object_size:.0f} pixels"
    limit = 2 * scales[-1]
    return [
        *(_small_windows() if is_small else []),
        Choice("INPUT.MIN_SIZE_TRAIN", scales, why),
        Choice("INPUT.MAX_SIZE_TRAIN", limit, "limits images that are long and narrow only"),
        Choice("INPUT.MIN_SIZE_TEST", scales[-1], "the largest of the scales"),
        Choice("INPUT.MAX_SIZE_TEST", limit, "as in training"),
        Choice("MODEL.INSTANCE_FCN.TEST_SCALES", scales, "as in training"),
    ]


def _small_windows() -> list[Choice]:
    why = "small objects: the windows of configs/quickstart"
    return [
        Choice("MODEL.INSTANCE_FCN.IN_FEATURE", "p2", why),
        Choice("MODEL.INSTANCE_FCN.WINDOW_SIZE", 15, why),
        Choice("MODEL.INSTANCE_FCN.NMS_PRE", 2000, "stride 4 has four times as many windows"),
    ]
