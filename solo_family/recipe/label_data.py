"""Read and check datasets whose labels are pictures: of classes, or of panoptic segments.

N images, K classes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog

from ..data.checks.dataset_check import DatasetCheck, check_file
from ..data.formats.dataset_classes import dataset_classes
from ..data.formats.image_files import ImageFiles
from ..data.formats.label_maps import check_size_in, read_labels, read_panoptic_ids
from ..data.formats.label_sample import check_labels
from ..data.formats.register import check_datasets
from ..data.loading.images import Reading, read_image_size
from ..data.loading.watchdog import TIMEOUT, watched
from ..errors import DataError
from ..progress import Progress
from .data import problem_words
from .fingerprint import look_at_files
from .label_fingerprint import LabelFingerprint, Region, describe_regions
from .label_split import write_label_splits

SEMANTIC, PANOPTIC = "semantic", "panoptic"
_COMPARED = 200  # panoptic PNGs that are compared with their json, at most, as `check-data` does


@dataclass(frozen=True)
class LabelDataset:
    """A dataset whose labels are pictures.

    Attributes:
        name: as configs name it.
        task: "semantic" or "panoptic".
        classes: the K names, in the order of the labels.
        records: detectron2's dicts, [N], with `height` and `width`.
        regions: [N], those of each image.
        check: what is wrong with the images; its classes are those that occur.
        contradictions: what is wrong with panoptic labels, a sentence each.
    """

    name: str
    task: str
    classes: tuple[str, ...]
    records: tuple[dict[str, Any], ...]
    regions: tuple[list[Region], ...]
    check: DatasetCheck
    contradictions: tuple[str, ...] = ()

    @property
    def num_images(self) -> int:
        """Number of images."""
        return len(self.records)

    @property
    def most_objects(self) -> int:
        """The most regions of an image: objects, or classes of semantic labels."""
        return max(map(len, self.regions), default=0)

    @property
    def problems(self) -> list[str]:
        """`check-data`'s words about each problem."""
        return [*problem_words(self.check), *self.contradictions]

    def measure(self) -> LabelFingerprint:
        """Return the fingerprint.

        Raises:
            DataError: no pixel has a class.
        """
        if not any(self.regions):
            raise DataError(
                f"{self.name}: no pixel of its labels has a class: there is nothing to learn. "
                "Correct the classes and the ignored label in the dataset's name."
            )
        sizes = [(record["height"], record["width"]) for record in self.records]
        files = look_at_files(self.check.paths.values())
        return describe_regions(sizes, self.regions, self.classes, *files)

    def split(self, folder: Path) -> tuple[str, str]:
        """Write two splits, and return their names in configs; the second is "" for one image.

        Raises:
            DataError: they can't be written.
        """
        labels = [{region.label for region in found} for found in self.regions]
        return write_label_splits(self.name, self.records, labels, self.classes, folder)


def task_of_labels(name: str) -> str:
    """Return the task of a registered dataset by its records; "" if its labels are no pictures."""
    records = DatasetCatalog.get(name)
    first = records[0] if records else {}
    # An image that has both is panoptic, as in training.
    keys = (("pan_seg_file_name", PANOPTIC), ("sem_seg_file_name", SEMANTIC))
    return next((task for key, task in keys if key in first), "")


def read_label_dataset(
    name: str,
    task: str,
    *,
    decode_images: bool = False,
    reading: Reading | None = None,
    timeout: float = TIMEOUT,
) -> LabelDataset:
    """Read all of a registered dataset's labels, and check them and its images.

    Args:
        name: of the dataset.
        task: that of `task_of_labels`.
        decode_images: whether to decode each image, instead of its header only.
        reading: how image files are read; by default `Reading()`.
        timeout: the longest time to read a file, in seconds; 0 sets no limit.

    Raises:
        DataError: a folder or a file is missing, a label picture can't be read, has another size
            than its image, or has a value that is no class.
        TrainingError: a file has taken longer than `timeout`.
    """
    check_datasets([name])
    classes = tuple(dataset_classes(name) or ())
    records = tuple(_with_size(record) for record in DatasetCatalog.get(name))
    check = DatasetCheck(num_images=len(records), num_categories=len(classes))
    files = ImageFiles("", "the dataset")
    images = Progress(records, "images", unit=" images", delay=1, leave=False)
    for place, record in enumerate(watched(images, "An image", timeout)):
        check_file(check, {**record, "id": place}, files, decode_images, reading or Reading())
    read = _reader(name, task, len(classes))
    labels = Progress(records, "labels", unit=" images", delay=1, leave=False)
    regions = tuple(read(record) for record in watched(labels, "A label picture", timeout))
    check.classes = {classes[region.label] for found in regions for region in found}
    contradictions = tuple(check_labels(name, _COMPARED)) if task == PANOPTIC else ()
    return LabelDataset(name, task, classes, records, regions, check, contradictions)


def _with_size(record: dict[str, Any]) -> dict[str, Any]:
    if "height" in record and "width" in record:
        return record
    height, width = read_image_size(record["file_name"])
    return {**record, "height": height, "width": width}


def _reader(name: str, task: str, num_classes: int) -> Callable[[dict[str, Any]], list[Region]]:
    if task == PANOPTIC:
        return _panoptic_regions
    ignored = MetadataCatalog.get(name).get("ignore_label", 255)
    return lambda record: _semantic_regions(record, num_classes, ignored)


def _semantic_regions(record: dict[str, Any], num_classes: int, ignored: int) -> list[Region]:
    """Return the classes of an image, each with its pixels."""
    path = record["sem_seg_file_name"]
    labels = _read(lambda: read_labels(path, num_classes, ignored), path, record)
    counts = np.bincount(labels.ravel(), minlength=num_classes + 1)[:num_classes]
    return [Region(label, pixels) for label, pixels in enumerate(counts.tolist()) if pixels]


def _panoptic_regions(record: dict[str, Any]) -> list[Region]:
    """Return the segments of an image, without crowds and those that no pixel has."""
    path = record["pan_seg_file_name"]
    segments = _read(lambda: read_panoptic_ids(path), path, record)
    ids, counts = np.unique(segments, return_counts=True)
    pixels = dict(zip(ids.tolist(), counts.tolist()))
    return [
        Region(int(segment["category_id"]), pixels[segment["id"]])
        for segment in record["segments_info"]
        if not segment.get("iscrowd", 0) and segment["id"] in pixels
    ]


def _read(read: Callable[[], np.ndarray], path: str, record: dict[str, Any]) -> np.ndarray:
    """Return a label picture, [H, W], of the size of its image.

    Raises:
        DataError: it can't be used.
    """
    try:
        labels = read()
    except DataError as error:
        raise DataError(f"{str(error).rstrip('.')}.") from error
    check_size_in(record, labels, path)
    return labels
