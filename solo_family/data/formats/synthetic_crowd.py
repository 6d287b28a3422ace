"""Crowds: drawn images with 1 to 5,000 and more small objects of exact masks, made from a seed.

The objects and their textures are those of the *shapes* dataset. They lie on a jittered lattice, so
that images of any number are equally dense: the more objects, the larger the image.
"""

import json
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from ...errors import DataError
from ...files import making
from ...progress import Progress
from .synthetic import add_image, new_content
from .synthetic_scene import SHAPES, Scene, draw_texture, rasterise, stands_out

SPACING = 32  # pixels of the lattice, about one object per 1,000 pixels
JITTER = 6.0  # pixels on each axis
SIZES = (14.0, 34.0)  # The diameter of the circle around an object, in pixels.
MIN_VISIBLE = 30  # pixels; an object with fewer would be hidden by its neighbours


def make_crowd(root: str | Path, numbers: dict[str, list[int]], *, seed: int = 0) -> Path:
    """Write `annotations/NAME.json` in COCO's format and `NAME/*.jpg` for each name of `numbers`.

    All of them appear under `root` at once when they are complete.

    Args:
        root: folder to make; if it exists, it is kept as it is.
        numbers: by name of a part, the number of objects of each of its images.
        seed: not negative; the same seed gives the same files.

    Returns:
        The absolute path of `root`.

    Raises:
        DataError: a number is below 1.
    """
    root = Path(root).resolve()
    if any(number < 1 for part in numbers.values() for number in part):
        raise DataError(f"make_crowd got {numbers}. Each image needs at least 1 object.")
    if root.exists():
        return root
    root.parent.mkdir(parents=True, exist_ok=True)
    with making(root) as build:
        (build / "annotations").mkdir(parents=True)
        for index, (name, part) in enumerate(numbers.items()):
            _write_part(build, name, part, [seed, index])
    return root


def draw_crowd(rng: Generator, number: int) -> Scene:
    """Draw a scene of exactly `number` objects, about as high as it is wide."""
    columns = int(np.ceil(np.sqrt(number)))
    rows = -(-number // columns)
    size = (rows * SPACING, columns * SPACING)
    scene = Scene(draw_texture(rng, *size), np.zeros(size, np.int32))
    visible = np.zeros(number + 1, int)  # pixels of each object; the first are the background's
    visible[0] = scene.segments.size
    # Which places of the lattice stay empty is random.
    for place in np.sort(rng.choice(rows * columns, number, replace=False)):
        corner = complex(place % columns, place // columns) * SPACING
        _add(rng, scene, visible, corner + complex(SPACING, SPACING) / 2)
    return scene


def _add(rng: Generator, scene: Scene, visible: NDArray[np.int_], place: complex) -> None:
    """Draw random objects about a place until one stands out, and hides no other.

    Args:
        rng: the source of random numbers.
        scene: gets the object.
        visible: how many pixels each object has; changed in place.
        place: x + iy in pixels.
    """
    number = len(scene.areas) + 1
    while True:
        category_id = int(rng.integers(len(SHAPES))) + 1
        centre = place + complex(*rng.uniform(-JITTER, JITTER, 2))
        scale_and_turn = rng.uniform(*SIZES) / 2 * np.exp(1j * rng.uniform(0, 2 * np.pi))
        outline = list(SHAPES.values())[category_id - 1](rng)
        window, coverage = rasterise(
            [centre + scale_and_turn * part for part in outline], scene.segments
        )
        mask = coverage >= 0.5
        covered = np.bincount(scene.segments[window][mask], minlength=len(visible))
        is_hidden = (covered > 0) & (visible - covered < MIN_VISIBLE)
        own = draw_texture(rng, *mask.shape)
        if mask.sum() < MIN_VISIBLE or is_hidden.any():
            continue
        if stands_out(own, scene.canvas[window], mask):
            break
    scene.canvas[window] += coverage[..., None] * (own - scene.canvas[window])
    scene.segments[window][mask] = number
    visible -= covered
    visible[number] = mask.sum()
    scene.areas.append(int(visible[number]))
    scene.category_ids.append(category_id)


def _write_part(root: Path, name: str, numbers: list[int], seed: list[int]) -> None:
    (root / name).mkdir()
    content = new_content()
    images = Progress(numbers, desc=f"crowd {name}", unit="image")
    for image_id, number in enumerate(images, start=1):
        rng = np.random.default_rng([*seed, image_id])
        scene = draw_crowd(rng, number)
        path = root / name / f"{image_id:04}_{number}_objects.jpg"
        add_image(content, path, image_id, scene, rng)
    path = root / "annotations" / f"{name}.json"
    path.write_text(json.dumps(content), encoding="utf-8")
