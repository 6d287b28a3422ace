"""Draw scenes of shapes that occlude each other; only its shape determines an object's category.

Shape letters: H W height and width of an image, h w height and width of an object's window in it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from .synthetic_stuff import Regions

Outline = NDArray[np.complex128]  # Points x + iy, rotated by a product; pixel 0 covers 0 to 1.
Colours = NDArray[np.float32]  # BGR, 0 to 255
Segments = NDArray[np.int32]

MAX_TRIES = 40
SMALL_SIZES = (13.0, 22.5)  # The diameter of the circle around an object, in pixels.
MIN_LARGE_SIZE = 26.0
MAX_SIZE = 0.45  # Of the image's shorter side.
SMALL_PROBABILITY = 0.25
TOUCH_PROBABILITY = 0.4  # Of a deliberate overlap, in addition to those that occur by chance.
MIN_OVERLAP = 8  # pixels
MIN_VISIBLE = 30  # pixels
MIN_VISIBLE_SHARE = 0.4  # Of the object's part inside the image.
MIN_CONTRAST = 60.0  # Euclidean distance between colours, each channel 0 to 255.
SUPERSAMPLING = 4
MARGIN = 3  # Pixels around an object in which its contrast is measured.


@dataclass
class Scene:
    """An image and its objects, each of which occludes those drawn before it.

    Attributes:
        canvas: the image, BGR float32 [H, W, 3], 0 to 255.
        segments: the number of each pixel's object, int32 [H, W], counted from 1; 0 is background.
        category_ids: of the objects, in the order in which they were drawn.
        areas: of the objects in pixels, including their occluded parts.
    """

    canvas: Colours
    segments: Segments
    category_ids: list[int] = field(default_factory=list)
    areas: list[int] = field(default_factory=list)


def draw_scene(
    rng: Generator,
    image_size: tuple[int, int],
    num_objects: int,
    regions: Regions | None = None,
) -> Scene:
    """Draw a scene of up to `num_objects` objects.

    An object that fits nowhere after `MAX_TRIES` tries is dropped.

    Args:
        rng: the source of random numbers.
        image_size: (H, W) in pixels.
        num_objects: number of objects to draw.
        regions: the background; None draws one texture.
    """
    canvas = regions[0].copy() if regions is not None else draw_texture(rng, *image_size)
    scene = Scene(canvas, np.zeros(image_size, np.int32))
    for _ in range(num_objects):
        any(_add_object(rng, scene) for _ in range(MAX_TRIES))
    return scene


def _add_object(rng: Generator, scene: Scene) -> bool:
    """Draw a random object unless it would hide another or be hardly visible.

    Returns:
        Whether it was drawn.
    """
    large_sizes = (MIN_LARGE_SIZE, MAX_SIZE * min(scene.segments.shape))
    size = rng.uniform(*(SMALL_SIZES if rng.random() < SMALL_PROBABILITY else large_sizes))
    category_id = int(rng.integers(len(SHAPES))) + 1
    touching = bool(scene.areas) and rng.random() < TOUCH_PROBABILITY
    centre = _centre(rng, scene.segments, size, touching)
    scale_and_turn = size / 2 * np.exp(1j * rng.uniform(0, 2 * np.pi))
    outline = [scale_and_turn * part for part in list(SHAPES.values())[category_id - 1](rng)]
    window, coverage = rasterise([centre + part for part in outline], scene.segments)
    mask = coverage >= 0.5

    segments = scene.segments.copy()
    segments[window][mask] = len(scene.areas) + 1
    areas = [*scene.areas, int(mask.sum())]
    visible = np.bincount(segments.ravel(), minlength=len(areas) + 1)[1:]
    texture = draw_texture(rng, *mask.shape)
    if (
        (visible < np.maximum(MIN_VISIBLE, MIN_VISIBLE_SHARE * np.array(areas))).any()
        or (touching and np.count_nonzero(scene.segments[window][mask]) < MIN_OVERLAP)
        or not stands_out(texture, scene.canvas[window], mask)
    ):
        return False
    scene.canvas[window] += coverage[..., None] * (texture - scene.canvas[window])
    scene.segments, scene.areas = segments, areas
    scene.category_ids.append(category_id)
    return True


def _centre(rng: Generator, segments: Segments, size: float, touching: bool) -> complex:
    """Draw the centre of an object, so that at most a fifth of its box is outside on each axis."""
    margin, corner = 0.3 * size, np.array(segments.shape[::-1])
    if not touching:
        return complex(*rng.uniform(margin, corner - margin))
    y, x = rng.choice(np.argwhere(segments == rng.integers(segments.max()) + 1))
    return complex(*np.clip((x, y) + size * rng.uniform(-0.4, 0.4, 2), margin, corner - margin))


def rasterise(parts: list[Outline], segments: Segments) -> tuple[Any, NDArray[np.float32]]:
    """Return the window around an outline, and the covered share of each of its pixels, [h, w]."""
    points = [np.stack([part.real, part.imag], axis=1) for part in parts]
    box = points[0].min(0).astype(int) - MARGIN, points[0].max(0).astype(int) + MARGIN
    (left, top), (right, bottom) = np.clip(box, 0, segments.shape[::-1])
    fine = np.zeros(((bottom - top) * SUPERSAMPLING, (right - left) * SUPERSAMPLING), np.float32)
    fine_points = [np.rint((part - (left, top)) * SUPERSAMPLING - 0.5) for part in points]
    # A single call for all parts fills the area between them, so a hole stays open.
    cv2.fillPoly(fine, [part.astype(np.int32) for part in fine_points], 1.0)
    coverage = cv2.resize(fine, (right - left, bottom - top), interpolation=cv2.INTER_AREA)
    return np.s_[top:bottom, left:right], coverage


def stands_out(texture: Colours, behind: Colours, mask: NDArray[np.bool_]) -> bool:
    """Return whether the object differs from what is behind it along nearly all of its edge."""
    inside, square = mask.astype(np.uint8), np.ones((5, 5), np.uint8)
    band = cv2.dilate(inside, square) > cv2.erode(inside, square)
    return bool(np.percentile(np.linalg.norm(texture - behind, axis=2)[band], 10) >= MIN_CONTRAST)


def draw_texture(rng: Generator, height: int, width: int) -> Colours:
    """Return a texture, [h, w, 3], that mixes two colours by a gradient, stripes and clouds."""
    x_step, y_step = rng.uniform(-1, 1, 2)
    ramp = y_step * np.arange(height)[:, None] + x_step * np.arange(width)
    gradient = (ramp - ramp.min()) / np.ptp(ramp)
    stripes = ramp // rng.uniform(2, 8) % 2
    clouds = cv2.resize(rng.random((2 + height // 12, 2 + width // 12)), (width, height))
    mix = np.stack([gradient, stripes, clouds], axis=2) @ rng.dirichlet((0.4, 0.4, 0.4))
    colours = rng.uniform(0, 255, 3) + mix[..., None] * rng.normal(0, 45, 3)
    return np.clip(colours, 0, 255).astype(np.float32)


def _polygon(*radii: float) -> Outline:
    """Return points at these distances from the origin, at evenly spaced angles."""
    return np.array(radii) * np.exp(2j * np.pi * np.arange(len(radii)) / len(radii))


ROUND = _polygon(*[1.0] * 64)
SQUARE = np.array([-1 - 1j, 1 - 1j, 1 + 1j, -1 + 1j]) / 2**0.5
# Outlines in the unit circle; the boundary of a hole comes second. Category ids count from 1 in
# this order.
SHAPES: dict[str, Callable[[Generator], list[Outline]]] = {
    "circle": lambda rng: [ROUND],
    "rectangle": lambda rng: [SQUARE.real + 1j * rng.uniform(0.5, 1.0) * SQUARE.imag],
    "triangle": lambda rng: [_polygon(1.0, *rng.uniform(0.8, 1.0, 2))],
    "star": lambda rng: [_polygon(*[1.0, rng.uniform(0.4, 0.5)] * 5)],
    "ring": lambda rng: [ROUND, ROUND * rng.uniform(0.45, 0.65)],
}
