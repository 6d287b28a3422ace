"""Outlines of masks as polygons that follow the edges of pixels, with holes and several parts.

Shape letters: H W height and width of the image, P points of a ring, C corners of all rings.

Coordinates are x, y in pixels from the image's upper left corner: the first pixel covers 0 to 1.
"""

from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as mask_util

# The overlap (IoU) with the mask that polygons keep if no tolerance is given.
LEAST_IOU = 0.98
# Tolerances in pixels that are tried then, from coarse to fine; 0 is exact.
_TOLERANCES = (2.0, 1.0, 0.75, 0.5, 0.0)
# A mask of more parts is noise, whose polygons hardly get simpler, but take long to compare.
_MOST_PARTS = 1000
# The most points of which the closest are searched when rings are joined.
_MOST_SEARCHED = 20_000
# Distances that are in memory at once.
_MOST_DISTANCES = 2**20


@dataclass
class Part:
    """One connected part of a mask: its outer ring and its holes, each float64 [P, 2].

    The first point is not repeated at the end. On a screen outer rings are clockwise and holes
    counter-clockwise.
    """

    outer: np.ndarray
    holes: list[np.ndarray] = field(default_factory=list)

    @property
    def rings(self) -> list[np.ndarray]:
        """The outer ring and the holes."""
        return [self.outer, *self.holes]


def outline(rle: dict[str, Any], tolerance: float | None = None) -> list[Part]:
    """Return the polygons of a mask.

    Args:
        rle: the mask as COCO's compressed RLE.
        tolerance: the most that a polygon may deviate from the mask's edge, in pixels; 0 is exact.
            None takes the coarsest tolerance whose polygons overlap the mask with an IoU of at
            least `LEAST_IOU`; masks of very many parts stay exact.

    Returns:
        The connected parts; pixels that touch only at a corner belong to two parts.
    """
    exact = trace(mask_util.decode(rle).astype(bool))
    if tolerance is not None:
        return [simplified(part, tolerance) for part in exact]
    if len(exact) > _MOST_PARTS:
        return exact
    for candidate in _TOLERANCES[:-1]:
        parts = [simplified(part, candidate) for part in exact]
        # Joined to one line as well, which is faster to draw and how some formats have them.
        if _overlap([join(parts)], rle) and _overlap([join([part]) for part in parts], rle):
            return parts
    return exact


def _overlap(rings: list[np.ndarray], rle: dict[str, Any]) -> bool:
    """Return whether the area of rings has the least IoU with a mask."""
    drawn = rasterise(rings, rle["size"])
    return float(mask_util.iou([drawn], [rle], [0])[0, 0]) >= LEAST_IOU


def rasterise(rings: list[np.ndarray], size: list[int]) -> dict[str, Any]:
    """Return the mask of the pixels inside any of several rings, as COCO's compressed RLE.

    Args:
        rings: each [P, 2].
        size: [H, W] of the image.
    """
    lines = [ring.ravel().tolist() for ring in rings if len(ring)]
    if not lines:
        return mask_util.encode(np.zeros(size, np.uint8, "F"))
    return mask_util.merge(mask_util.frPyObjects(lines, *size))


def trace(mask: np.ndarray) -> list[Part]:
    """Return the polygons whose interiors are exactly the pixels of a mask, bool [H, W]."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return []
    top, left = rows[0], columns[0]
    cropped = mask[top : rows[-1] + 1, left : columns[-1] + 1]
    _, components = cv2.connectedComponents(cropped.astype(np.uint8), connectivity=4)
    outers: dict[int, np.ndarray] = {}
    holes: dict[int, list[np.ndarray]] = {}
    for ring, is_hole in _rings(cropped):
        x, y = min(map(tuple, ring.tolist()), key=lambda point: (point[1], point[0]))
        # Below the upper edge of an outer ring, and above that of a hole, is the mask.
        component = int(components[y - is_hole, x])
        moved = ring + np.array([left, top])
        if is_hole:
            holes.setdefault(component, []).append(moved.astype(np.float64))
        else:
            outers[component] = moved.astype(np.float64)
    return [Part(ring, holes.get(component, [])) for component, ring in outers.items()]


def _rings(mask: np.ndarray) -> list[tuple[np.ndarray, bool]]:
    """Return the rings of a mask, int64 [P, 2], and whether each is a hole."""
    points, vertical, below = _corners(mask)
    done = [False] * len(points)
    rings = []
    for first in range(len(points)):
        if done[first]:
            continue
        corners, corner = [], first
        while not done[corner]:
            across = corner ^ 1
            done[corner] = done[across] = True
            corners += [points[corner], points[across]]
            corner = vertical[across]
        for simple in _split(corners):
            ring = np.array(simple)
            clockwise = signed_area(ring) > 0
            is_hole = clockwise != below[first]
            # The mask is on the right-hand side of an outer ring.
            rings.append((ring if clockwise != is_hole else ring[::-1], is_hole))
    return rings


def _corners(mask: np.ndarray) -> tuple[list[tuple[int, int]], list[int], list[bool]]:
    """Return the corners of the rings around a mask, in the order of reading.

    A corner where two pixels touch diagonally is there twice, for two rings or two passes of one.
    Corner 2 i and corner 2 i + 1 are the ends of a horizontal edge.

    Returns:
        points: x and y of each corner, [C].
        vertical: index of the other end of each corner's vertical edge, [C].
        below: whether the pixel below and to the right of each corner is set, [C].
    """
    padded = np.pad(mask, 1).astype(np.uint8)
    quarters = padded[:-1, :-1], padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:]
    upper_left, _, _, lower_right = quarters
    count = sum(quarters)
    diagonal = (count == 2) & (upper_left == lower_right)
    ys, xs = np.nonzero((count % 2 == 1) | diagonal)
    twice = diagonal[ys, xs]
    index = np.repeat(np.arange(len(xs)), 1 + twice)
    second = np.append(False, index[1:] == index[:-1])
    ys, xs = ys[index], xs[index]
    # The first of two has the edge to the left. Its vertical edge is the one that encloses a pixel
    # of the mask with it, so that pixels that touch diagonally are not connected.
    is_lower = np.where(upper_left[ys, xs] == 1, second, ~second)
    order = np.lexsort((is_lower, ys, xs))
    vertical = np.empty_like(order)
    vertical[order] = order.reshape(-1, 2)[:, ::-1].ravel()
    points = list(zip(xs.tolist(), ys.tolist()))
    return points, vertical.tolist(), (lower_right[ys, xs] == 1).tolist()


def _split(corners: list[tuple[int, int]]) -> list[list[tuple[int, int]]]:
    """Split a ring that passes through a point twice into rings that do not."""
    rings = []
    path: list[tuple[int, int]] = []
    place: dict[tuple[int, int], int] = {}
    for corner in corners:
        if corner in place:
            start = place[corner]
            rings.append(path[start:])
            for left in path[start + 1 :]:
                del place[left]
            del path[start + 1 :]
        else:
            place[corner] = len(path)
            path.append(corner)
    return [*rings, path]


def signed_area(ring: np.ndarray) -> float:
    """Return the area of a ring [P, 2], positive if it is clockwise on a screen."""
    x, y = ring[:, 0], ring[:, 1]
    across = (x[:-1] * y[1:] - x[1:] * y[:-1]).sum() + x[-1] * y[0] - x[0] * y[-1]
    return float(across) / 2


def simplified(part: Part, tolerance: float) -> Part:
    """Return a part with fewer points, by Douglas and Peucker's algorithm.

    A ring that would collapse stays as it is.

    Args:
        part: the part.
        tolerance: the largest distance between the rings, in pixels.
    """
    outer, *holes = (_simplified_ring(ring, tolerance) for ring in part.rings)
    return Part(outer, holes)


def _simplified_ring(ring: np.ndarray, tolerance: float) -> np.ndarray:
    if tolerance <= 0:
        return ring
    points = ring.astype(np.int32).reshape(-1, 1, 2)
    fewer = cv2.approxPolyDP(points, tolerance, closed=True).reshape(-1, 2).astype(np.float64)
    return fewer if len(fewer) >= 3 and signed_area(fewer) * signed_area(ring) > 0 else ring


def join(parts: list[Part]) -> np.ndarray:
    """Return all rings of parts as one ring, float64 [P, 2].

    Each ring is connected to those before it at the closest points, by a line that is passed in
    both directions and so encloses nothing. Very many points are not searched for the closest.
    """
    rings = [ring for part in parts for ring in part.rings]
    if not rings:
        return np.empty((0, 2))
    if sum(map(len, rings)) > _MOST_SEARCHED:
        first = rings[0][:1]
        pieces = [[ring, ring[:1], first] for ring in rings]
        return np.concatenate([piece for three in pieces for piece in three])
    joined = rings[0]
    for ring in rings[1:]:
        here, there = _closest(joined, ring)
        turned = np.roll(ring, -there, axis=0)
        bridge = [joined[: here + 1], turned, turned[:1], joined[here:]]
        joined = np.concatenate(bridge)
    return joined


def _closest(points: np.ndarray, ring: np.ndarray) -> tuple[int, int]:
    """Return the places of the two closest points, of which the first are taken of several pairs.

    Distances are sums of those in x and in y.

    Args:
        points: [P, 2].
        ring: another P of them.
    """
    from_first = np.abs(points - ring[0]).sum(axis=1)
    reach = np.abs(ring - ring[0]).sum(axis=1).max()
    # A point that is further away than that is not the closest to any of the ring.
    near = np.flatnonzero(from_first <= from_first.min() + reach)
    best, here, there = np.inf, 0, 0
    step = max(1, _MOST_DISTANCES // len(ring))
    for start in range(0, len(near), step):
        x, y = points[near[start : start + step]].T
        distances = np.abs(x[:, None] - ring[:, 0]) + np.abs(y[:, None] - ring[:, 1])
        place = int(distances.argmin())
        if distances.flat[place] < best:
            best = distances.flat[place]
            here, there = int(near[start + place // len(ring)]), place % len(ring)
    return here, there
