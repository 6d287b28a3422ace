"""A cache of decoded images, in memory that all processes that load a run's images share.

The memory has no file, so that nothing is left of it when the last process ends, however it ends.
Each image has a place of its own from the start, and keeps it: training goes through the images in
random order, where a cache that replaces the oldest would never have the next one.
"""

import logging
import mmap
import os
import threading
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from detectron2.utils import comm

from ...errors import DataError
from ...pictures.formats import parse_format
from .images import Reading, read_header, read_image
from .reduced import Target, reduced_size
from .shared_slots import NO_RESERVE

logger = logging.getLogger(__name__)

Shape = tuple[int, int, int]

# What the table says of an image.
_EMPTY, _KEPT, _CHANGED = 0, 1, 2


class ImageCache:
    """Read images as `read_image` does, and keep as many of them as fit.

    An image whose file has changed since it was decoded is decoded again, every time from then on:
    another process may be reading what is kept.

    Args:
        image_format: see `read_image`.
        reading: see `read_image`.
        shapes: of the decoded images, (height, width, channels), by the paths of their files. An
            image with another shape is not kept.
        num_bytes: the size of the cache. The first images are kept that fit; the system provides
            memory as they are decoded.

    Raises:
        OSError, ValueError: the system can't provide as much memory.
    """

    def __init__(
        self,
        image_format: str,
        reading: Reading,
        shapes: Mapping[str, Shape],
        num_bytes: int,
    ) -> None:
        self._image_format = image_format
        self._reading = reading
        self._places: dict[str, tuple[int, int, Shape]] = {}
        end = 0
        for path, shape in shapes.items():
            size = int(np.prod(shape))
            if end + size <= num_bytes:
                self._places[path] = (len(self._places), end, shape)
                end += size
        self.num_bytes = end
        flags = mmap.MAP_SHARED | mmap.MAP_ANONYMOUS
        memory = mmap.mmap(-1, max(1, end), flags=flags | NO_RESERVE)
        table = mmap.mmap(-1, max(1, 24 * len(self._places)), flags=flags)
        self._memory = np.frombuffer(memory, np.uint8)
        # For each image: what the table says of it, and the time and the size of its file.
        self._table = np.frombuffer(table, np.int64)[: 3 * len(self._places)].reshape(-1, 3)
        # Whoever has taken the only byte may write. Nobody waits for it: a process that was killed
        # does not give it back.
        self._turn = os.pipe()
        os.set_blocking(self._turn[0], False)
        os.write(self._turn[1], b"1")
        weakref.finalize(self, _close, self._turn)
        self._fence = threading.Lock()

    def __len__(self) -> int:
        """Return the number of images that have a place."""
        return len(self._places)

    def of(self, reading: Reading) -> "ImageCache | None":
        """Return the cache for a reader of its images; None if that reads them in another way.

        Copy-paste takes objects from images of another size, for which fewer are decoded reduced.
        """
        return self if reading == self._reading else None

    def __getstate__(self) -> dict[str, Any]:
        # Memory without a file can't be sent to a process that was not forked.
        return {"_image_format": self._image_format, "_reading": self._reading, "_places": {}}

    def read(self, path: str) -> np.ndarray:
        """Return an image, uint8 [H, W, C], which may be changed.

        Raises:
            DataError: see `read_image`.
        """
        place = self._places.get(path)
        version = None if place is None else _version(path)
        if place is None or version is None:
            return self._decode(path)
        number, start, shape = place
        state, *kept = self._table[number].tolist()
        with self._fence:  # what is read below is not older than what was read above
            pass
        if state == _KEPT and tuple(kept) == version:
            return self._memory[start : start + int(np.prod(shape))].reshape(shape).copy()
        if state == _KEPT:
            self._table[number, 0] = _CHANGED
        image = self._decode(path)
        if state == _EMPTY and image.shape == shape and image.dtype == np.uint8:
            self._keep(number, start, image, version)
        return image

    def _decode(self, path: str) -> np.ndarray:
        return read_image(path, self._image_format, self._reading)

    def _keep(self, number: int, start: int, image: np.ndarray, version: tuple[int, int]) -> None:
        """Write an image to its place, unless another process is writing, or has written it."""
        try:
            os.read(self._turn[0], 1)
        except BlockingIOError:
            return
        try:
            if self._table[number, 0] == _EMPTY:
                self._memory[start : start + image.size] = image.reshape(-1)
                self._table[number, 1:] = version
                with self._fence:
                    self._table[number, 0] = _KEPT
        finally:
            os.write(self._turn[1], b"1")


def build_cache(cfg: CfgNode, dataset: Sequence[dict[str, Any]]) -> ImageCache | None:
    """Return the cache of `DATALOADER.CACHE_BYTES`; None for none, or where there is no memory.

    The processes of one machine share the bytes among them.

    Args:
        cfg: the configuration.
        dataset: detectron2's dicts of all training images.
    """
    num_bytes = cfg.DATALOADER.CACHE_BYTES // comm.get_local_size()
    if not num_bytes:
        return None
    wanted = parse_format(cfg.INPUT.FORMAT)
    target = Target.from_config(cfg)
    reading = replace(Reading.from_config(cfg), target=target)
    shapes: dict[str, Shape] = {}
    for record in dataset:
        path = record["file_name"]
        if path not in shapes and (size := _size_of(record)) is not None:
            if target is not None and path.lower().endswith((".jpg", ".jpeg")):
                size = reduced_size(size, target.fraction(size))
            shapes[path] = (*size, wanted.count)
    try:
        cache = ImageCache(cfg.INPUT.FORMAT, reading, shapes, num_bytes)
    except (OSError, ValueError):
        logger.warning(
            "The system does not give the %d bytes of DATALOADER.CACHE_BYTES (ulimit -v is set, or "
            "vm.overcommit_memory is 2), so images are decoded each time.",
            num_bytes,
        )
        return None
    logger.info(
        "Decoded images are kept in memory: %d of %d have a place, in %d bytes.",
        *(len(cache), len(shapes), cache.num_bytes),
    )
    return cache


def _size_of(record: dict[str, Any]) -> tuple[int, int] | None:
    """Return height and width of an image; None where its file can't be read."""
    if "height" in record and "width" in record:
        return int(record["height"]), int(record["width"])
    try:  # detectron2's dicts of semantic datasets have no sizes
        return read_header(record["file_name"], parse_format("BGR"))[:2]
    except DataError:
        return None  # the mapper will say what is wrong


def _version(path: str) -> tuple[int, int] | None:
    """Return what changes when a file does; None of what is no local file."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def _close(ends: tuple[int, int]) -> None:
    for end in ends:
        os.close(end)
