"""The check of a COCO-format dataset for all problems at once; loading stops at the first one.

Shape letters: G objects that training learns.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from ...errors import DataError
from ...pictures.depth import UntoldRange
from ...pictures.formats import OtherChannels, check_channels
from ...progress import Progress
from ..formats.coco_file import CocoFile, read_coco_file
from ..formats.crowds import OBJECTS, are_of_a_tool
from ..formats.image_files import ImageFiles
from ..loading.images import TURNED, Reading, read_header, read_image
from ..loading.watchdog import TIMEOUT, watched
from . import findings
from .annotation_check import MeasuredObject, check_annotation, name_of
from .findings import Findings, Kind
from .relations import check_relations, vanishes

# Maps the (height, width) of an image to all sizes that training may resize it to.
TrainingSizes = Callable[[tuple[int, int]], list[tuple[int, int]]]

_SECONDS_WITHOUT_PROGRESS = 1
_DEEP_FILES = 20  # files with a range that can't be inferred are named, at most
_SAME_SIZE = (2, 3, 4)  # EXIF orientations that leave the size of any image as it is
_IDS = {
    "images": findings.IMAGE_ID,
    "annotations": findings.ANNOTATION_ID,
    "categories": findings.CATEGORY_ID,
}


@dataclass
class DatasetCheck(Findings):
    """The findings of a dataset, and measurements of its objects.

    Attributes:
        num_images: number of images in the json.
        num_annotations: number of annotations in the json.
        num_categories: number of categories in the json.
        boxes: [G, 4], x0 y0 x1 y1 in pixels of the image, clipped at its border.
        image_sizes: [G, 2], height and width of each object's image, in pixels.
        images: [G], the file name of each object's image.
        areas: [G], area of each object's mask, in pixels.
        paths: path of each readable image, by its id.
        classes: names of the classes that have objects.
        class_names: of all classes of a json; empty for labels that are pictures.
    """

    num_images: int = 0
    num_annotations: int = 0
    num_categories: int = 0
    boxes: list[list[float]] = field(default_factory=list)
    image_sizes: list[tuple[int, int]] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    areas: list[int] = field(default_factory=list)
    paths: dict[Any, str] = field(default_factory=dict)
    classes: set[str] = field(default_factory=set)
    class_names: tuple[str, ...] = ()


def check_coco_dataset(
    annotations: str,
    image_dir: str,
    *,
    crowd: str = "",
    decode_images: bool = False,
    training_sizes: TrainingSizes | None = None,
    reading: Reading | None = None,
    timeout: float = TIMEOUT,
) -> DatasetCheck:
    """Check every image and annotation of a dataset.

    Args:
        annotations: path of the json file.
        image_dir: the folder that its `file_name`s are relative to.
        crowd: "objects" to treat crowds as objects, or "".
        decode_images: whether to decode each image, instead of its header only. This detects
            truncated files, and takes as long as reading them in training.
        training_sizes: maps the (height, width) of an image to the sizes that training resizes it
            to, to detect objects that vanish; None skips that.
        reading: how image files are read; by default `Reading()`.
        timeout: the longest time to read an image or check an annotation, in seconds; 0 sets no
            limit.

    Raises:
        DataError: the json can't be read, or isn't in COCO's format (see `parse`).
        TrainingError: an image or annotation has taken longer than `timeout`.
    """
    file = read_coco_file(annotations, image_dir)
    return check_dataset(
        file,
        image_dir,
        crowd=crowd,
        decode_images=decode_images,
        training_sizes=training_sizes,
        reading=reading,
        timeout=timeout,
    )


def check_dataset(
    file: CocoFile,
    image_dir: str,
    *,
    crowd: str = "",
    decode_images: bool = False,
    training_sizes: TrainingSizes | None = None,
    reading: Reading | None = None,
    timeout: float = TIMEOUT,
) -> DatasetCheck:
    """Check every image and annotation of a dataset that was read; see `check_coco_dataset`."""
    annotated = file.annotations
    if crowd == OBJECTS:
        annotated = [annotation | {"iscrowd": 0} for annotation in annotated]
    check = DatasetCheck(
        num_images=len(file.images),
        num_annotations=len(annotated),
        num_categories=len(file.categories),
        class_names=tuple(str(category["name"]) for category in file.categories),
    )
    check.add(findings.OTHERWISE, *file.notices)
    for part, kind in _IDS.items():
        _check_ids(check, part, kind, [item.get("id") for item in file.content.get(part, [])])
    files = ImageFiles(image_dir, "the json")
    for image in watched(_progress(file.images, "images"), "An image", timeout):
        check_file(check, image, files, decode_images, reading or Reading())
    check.add(findings.NAMED_OTHERWISE, *files.otherwise)
    _check_shared_files(check, file.images, files)
    images = {_hashable(image["id"]): image for image in file.images}
    categories = {_hashable(category["id"]): category["name"] for category in file.categories}
    objects: dict[Any, list[MeasuredObject]] = {}
    for annotation in watched(_progress(annotated, "annotations"), "An annotation", timeout):
        image_id = _hashable(annotation.get("image_id"))
        category_id = _hashable(annotation.get("category_id"))
        if image_id not in images:
            check.add(findings.UNKNOWN_IMAGE, f"{name_of(annotation)}: image {image_id}")
        if category_id not in categories:
            check.add(findings.UNKNOWN_CATEGORY, f"{name_of(annotation)}: category {category_id}")
        found = check_annotation(check, annotation, images.get(image_id))
        if found is not None:
            objects.setdefault(image_id, []).append(found)
    check.images = [str(images[key]["file_name"]) for key, found in objects.items() for _ in found]
    _add_measures(check, objects, training_sizes)
    check_relations(check, images, objects, timeout)
    _check_empty(check, annotated, images, categories)
    if are_of_a_tool(annotated):
        crowds = check.found.pop(findings.CROWD)
        check.add(findings.CROWDS_OF_A_TOOL, *crowds)
    if not any(kind.effect == findings.STOPS for kind in check.found):
        try:
            file.check()
        except DataError as error:
            check.add(findings.REFUSED, str(error))
    return check


def _check_shared_files(
    check: DatasetCheck, images: list[dict[str, Any]], files: ImageFiles
) -> None:
    """Record files that were found under the names of several images, and forget their paths."""
    names = {_hashable(image["id"]): str(image["file_name"]) for image in images}
    clashes = files.clashes((names[key], path) for key, path in check.paths.items())
    check.add(findings.SHARED_FILE, *(" and ".join(same) for same in clashes.values()))
    check.paths = {key: path for key, path in check.paths.items() if path not in clashes}


def _check_empty(
    check: DatasetCheck,
    annotated: list[dict[str, Any]],
    images: dict[Any, dict[str, Any]],
    categories: dict[Any, Any],
) -> None:
    if not annotated:
        return  # a test set without ground truth
    objects = [annotation for annotation in annotated if not annotation.get("iscrowd")]
    filled = {_hashable(annotation.get("image_id")) for annotation in objects}
    used = {_hashable(annotation.get("category_id")) for annotation in objects}
    check.classes = {str(name) for key, name in categories.items() if key in used}
    empty = [str(image["file_name"]) for key, image in images.items() if key not in filled]
    unused = [str(name) for key, name in categories.items() if key not in used]
    check.add(findings.EMPTY_IMAGE, *empty)
    check.add(findings.EMPTY_CATEGORY, *unused)


def _progress(items: list[Any], unit: str) -> Iterable[Any]:
    return Progress(items, unit=f" {unit}", delay=_SECONDS_WITHOUT_PROGRESS, leave=False)


def _hashable(identity: Any) -> Any:
    return identity if isinstance(identity, int | float | str | None) else repr(identity)


def _check_ids(check: DatasetCheck, part: str, kind: Kind, ids: list[Any]) -> None:
    odd = [f"{identity!r} in {part}" for identity in ids if not isinstance(identity, int | str)]
    twice = [str(key) for key, count in Counter(map(_hashable, ids)).items() if count > 1]
    check.add(findings.ODD_ID, *odd)
    check.add(kind, *twice)


def check_file(
    check: DatasetCheck, image: dict[str, Any], files: ImageFiles, decode: bool, reading: Reading
) -> None:
    """Check the file of an image.

    Args:
        check: receives the findings, and the file's path if it can be read.
        image: as a json has it, with `id`, `file_name`, `height` and `width`.
        files: where files are looked up.
        decode: whether to decode it, instead of its header only.
        reading: how files are read.
    """
    name = str(image["file_name"])
    try:
        path = files.find(name)
    except DataError:
        check.add(findings.OUTSIDE_FILE, name)
        return
    if path is None:
        check.add(findings.MISSING_FILE, name)
        return
    try:
        height, width, channels, is_deep, orientation = read_header(path, reading.format)
        check_channels(name, channels, reading.format)
        is_large = height * width > reading.max_pixels
        if is_large:
            check.add(findings.TOO_LARGE, f"{name}: {height * width} pixels")
        elif is_deep:
            _check_values(check, name, path, reading)
        elif decode:
            read_image(path, reading.image_format, reading)
    except OtherChannels:
        check.add(findings.OTHER_CHANNELS, f"{name}: {channels}")
        return
    except DataError:
        check.add(findings.UNREADABLE_FILE, name)
        return
    check.paths[_hashable(image["id"])] = path
    if (image["height"], image["width"]) != (height, width):
        turned = (image["width"], image["height"]) == (height, width)
        said = f"{image['height']} x {image['width']}"
        kind = findings.TURNED_SIZE if turned else findings.OTHER_SIZE
        check.add(kind, f"{name}: {said}, is {height} x {width}")
    elif orientation in _SAME_SIZE or (orientation in TURNED and height == width):
        check.add(findings.TURNED_UNSEEN, name)


def _check_values(check: DatasetCheck, name: str, path: str, reading: Reading) -> None:
    """Record a deep image whose range can't be inferred, unless enough were recorded already."""
    if len(check.found.get(findings.UNTOLD_RANGE, [])) >= _DEEP_FILES:
        return
    try:
        read_image(path, reading.image_format, reading)
    except UntoldRange as error:
        check.add(findings.UNTOLD_RANGE, f"{name}: {error.values}")


def _add_measures(
    check: DatasetCheck,
    objects: dict[Any, list[MeasuredObject]],
    training_sizes: TrainingSizes | None,
) -> None:
    for found in (item for items in objects.values() for item in items):
        check.boxes.append(found.box)
        check.image_sizes.append(found.size)
        check.areas.append(found.area)
    if training_sizes is None:
        return
    sizes = {size: training_sizes(size) for size in set(check.image_sizes)}
    for found in (item for items in objects.values() for item in items):
        gone = [size for size in sizes[found.size] if vanishes(found, size)]
        if gone:
            check.add(findings.VANISHES, f"{found.name} at {gone[0][0]} x {gone[0][1]}")
