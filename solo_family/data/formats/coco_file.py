"""The reader of COCO-format annotations, which parses a file once per process.

Training, evaluation and all checks read annotations with it. `coco_normalise` converts variants of
the format, and `coco_values` refuses invalid values.
"""

import gc
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from detectron2.utils.file_io import PathManager

from ...errors import DataError
from ..loading.images import read_image_size
from .coco_normalise import compact, has_keys, normalise
from .coco_values import check_annotations, check_categories, check_images, check_unique
from .foreign_json import known_as
from .image_files import ImageFiles, find_all
from .json_files import NotJson, parse_json
from .unusable import usable_annotations

logger = logging.getLogger(__name__)

Item = dict[str, Any]

_PARTS = {
    "images": ("id", "file_name"),
    "categories": ("id",),
    "annotations": (),
}


class MissingFile(DataError, FileNotFoundError):
    """Say that a registered dataset is missing here; its class names may be known nevertheless."""


class CocoFile:
    """The content of a COCO-format json, normalised in place.

    Args:
        source: the path of the json, for messages.
        content: of the json, with COCO's parts; see `check_parts`.
        image_dir: the folder of its images, from which missing sizes are read; None leaves sizes
            unknown.

    Attributes:
        content: the normalised content; see `coco_normalise.normalise`.
        images: its images.
        categories: its categories that are classes, in the order of their ids.
        annotations: its annotations; empty if there is no ground truth.
        is_annotated: whether the file has annotations, even if there are none in the list.
        notices: phrases for the log about the conversions that were made.
    """

    def __init__(self, source: str, content: dict[str, Any], image_dir: str | None = None) -> None:
        self.source = source
        self.content = content
        self.is_annotated = "annotations" in content
        notices = normalise(content)
        self.images: list[Item] = content["images"]
        self.categories: list[Item] = content["categories"]
        self.annotations: list[Item] = content.get("annotations", [])
        self.notices = notices.listed()
        self.has_sizes = all(_has_size(image) for image in self.images)
        if image_dir is not None:
            self.measure_images(image_dir)
        self._is_checked = False
        self._usable: list[Item] | None = None
        self._paths: dict[str, list[str]] = {}

    def measure_images(self, image_dir: str) -> None:
        """Read the sizes that the json lacks from the headers of the image files."""
        if self.has_sizes:
            return
        files = ImageFiles(image_dir, self.source)
        lacking = [image for image in self.images if not _has_size(image)]
        for image in lacking:
            try:
                path = files.find(str(image["file_name"]))
                size = read_image_size(path) if path else (None, None)
            except DataError:
                size = (None, None)
            image["height"], image["width"] = size
        self.has_sizes = all(_has_size(image) for image in self.images)
        self.notices.append(f"{len(lacking)} x no 'height' and 'width', taken from the images")

    def check(self) -> None:
        """Check the values of all parts and their references to each other, unless it was done.

        Raises:
            DataError: an id is duplicate, an annotation refers to an unknown image or category, or
                a value is invalid.
        """
        if self._is_checked:
            return
        check_categories(self.source, self.categories)
        check_images(self.source, self.images)
        image_ids = self._unique_ids("images")
        category_ids = self._unique_ids("categories")
        check_annotations(self.source, self.annotations, image_ids, category_ids)
        self._unique_ids("annotations")
        self._is_checked = True
        self._report(self.notices)

    @property
    def usable(self) -> list[Item]:
        """The annotations that can be made into masks; the first access logs how many cannot."""
        if self._usable is None:
            self.check()
            by_id = {image["id"]: image for image in self.images}
            self._usable = usable_annotations(self.annotations, by_id, self.source)
        return self._usable

    def image_paths(self, image_dir: str) -> list[str]:
        """Return the path of each image.

        Raises:
            DataError: images are missing; see `ImageFiles`.
        """
        if image_dir not in self._paths:
            names = [image["file_name"] for image in self.images]
            self._paths[image_dir], notices = find_all(image_dir, names, self.source)
            self._report(notices)
        return self._paths[image_dir]

    def _unique_ids(self, part: str) -> set[Any]:
        ids = (item["id"] for item in self.content.get(part, []))
        return check_unique(self.source, part, ids)

    def _report(self, notices: list[str]) -> None:
        if notices:
            logger.warning("%s: converted to COCO's form: %s.", self.source, "; ".join(notices))


_files: dict[str, tuple[tuple[int, int], CocoFile]] = {}


def read_coco_file(path: str, image_dir: str | None = None) -> CocoFile:
    """Return the content of a json, with values that are not checked yet.

    The file is parsed once per process, and again when it changes.

    Args:
        path: of the json.
        image_dir: the folder of its images, from which missing sizes are read.

    Raises:
        DataError: see `parse`.
    """
    local = str(path)
    stamp = _stamp(local)
    cached = _files.get(local)
    if cached is None or cached[0] != stamp:
        _files.pop(local, None)  # free the old content before the new one is read
        cached = (stamp, CocoFile(local, parse(local)))
        _files[local] = cached
    if image_dir is not None:
        cached[1].measure_images(image_dir)
    return cached[1]


def forget_coco_files() -> None:
    """Free the content of all files that were read; `read_coco_file` would parse them again."""
    _files.clear()


def _stamp(path: str) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return (0, 0)  # the file is remote or missing; `parse` raises the error
    return status.st_mtime_ns, status.st_size


def parse(path: str) -> dict[str, Any]:
    """Return the content of a COCO-format json, with polygons as arrays.

    Raises:
        DataError: the file is missing, is not JSON, lacks a part of COCO's format, or has no images
            or categories.
    """
    try:
        with PathManager.open(path, "rb") as file, without_collection():
            content = parse_json(file, object_hook=compact)
    except OSError as error:
        kind = MissingFile if isinstance(error, FileNotFoundError) else DataError
        raise kind(
            f"The annotation file {path} can't be read ({error.strerror or error}). "
            "Give the path of a COCO-format json."
        ) from error
    except NotJson as error:
        raise DataError(
            f"{path} is not JSON: {error}. Give the path of a COCO-format json."
        ) from error
    check_parts(path, content)
    return content


@contextmanager
def without_collection() -> Iterator[None]:
    """Switch the garbage collector off in the `with` block, in which many objects are created.

    It would traverse all of them again and again.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def check_parts(source: str, content: Any) -> None:
    """Check that a content has COCO's parts, with at least one image and one category.

    Args:
        source: path of the json, for messages.
        content: of the json.

    Raises:
        DataError: a part is missing or empty; the message names it.
    """
    if isinstance(content, dict) and "categories" not in content and "images" in content:
        raise DataError(
            f"{source} has no 'categories', which name the classes. Add them, for instance "
            '"categories": [{"id": 1, "name": "object"}].'
        )
    is_list = isinstance(content, list) and content and isinstance(content[0], dict)
    if is_list and "image_id" in content[0]:
        raise DataError(
            f"{source} is a list of results, without images and categories. Predict again with "
            "demo --save coco, which writes a dataset."
        )
    annotations = content.get("annotations") if isinstance(content, dict) else None
    first = annotations[0] if isinstance(annotations, list) and annotations else None
    if isinstance(first, dict) and "segments_info" in first:
        raise DataError(
            f"{source} is in COCO's panoptic format. Name the dataset "
            "panoptic:IMAGE_DIR:PNG_DIR:PANOPTIC.json."
        )
    known = None if isinstance(content, dict) and "images" in content else known_as(content)
    if known is not None:
        raise DataError(f"{source} is {known[0]}, not COCO's format. {known[1]}")
    for part, keys in _PARTS.items():
        items = content.get(part) if isinstance(content, dict) else None
        if part == "annotations" and isinstance(content, dict) and part not in content:
            continue  # a test set without ground truth
        if not isinstance(items, list) or not all(
            isinstance(item, dict) and has_keys(item, keys) for item in items
        ):
            needed = f" with {', '.join(map(repr, keys))}" if keys else ""
            raise DataError(
                f"{source} is not in COCO's format for instances: '{part}' must be a list of "
                f"objects{needed}. Export it as COCO instances."
            )
    if not content["images"]:
        raise DataError(
            f"{source} has no images. Name a file that has some; this may be the file of an empty "
            "split."
        )
    if not content["categories"]:
        raise DataError(f"{source} has no categories: there is nothing to learn. Add them.")


def _has_size(image: Item) -> bool:
    return image["height"] is not None and image["width"] is not None
