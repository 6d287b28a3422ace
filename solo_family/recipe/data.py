"""Read datasets of instances: refuse what `check-data` refuses, and split what is one set."""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detectron2.data import MetadataCatalog

from ..data.checks.dataset_check import DatasetCheck, check_coco_dataset, check_dataset
from ..data.checks.findings import Findings
from ..data.formats.coco_file import CocoFile, read_coco_file
from ..data.formats.coco_json import records_as_file
from ..data.formats.crowds import OBJECTS
from ..data.formats.register import PREFIX, check_datasets, register_in_place
from ..data.formats.splits import TRAIN, VAL, write_splits
from ..data.loading.images import Reading
from ..errors import DataError, first_of
from .fingerprint import Fingerprint, measure
from .split import split_by_stem

INSTANCE = "instance"
_NAMED = 3
_JSON = (".json", ".json.gz")


@dataclass(frozen=True)
class Dataset:
    """A dataset of instances.

    Attributes:
        name: as configs name it.
        file: its annotations.
        image_dir: of a COCO-format json, the folder of its images; else "".
        crowd: "objects" if crowds are objects, or "".
        check: what is wrong with it.
        task: what its labels are for.
    """

    name: str
    file: CocoFile
    image_dir: str
    crowd: str
    check: DatasetCheck
    task: str = INSTANCE

    @property
    def num_images(self) -> int:
        """Number of images."""
        return len(self.file.images)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names, in the order of the model's outputs."""
        return tuple(str(category["name"]) for category in self.file.categories)

    @property
    def has_objects(self) -> bool:
        """Whether any image has an object."""
        return bool(self.file.usable)

    @property
    def most_objects(self) -> int:
        """The most objects of an image."""
        is_object = self.crowd == OBJECTS
        counts = Counter(
            item["image_id"] for item in self.file.usable if is_object or not item.get("iscrowd")
        )
        return max(counts.values(), default=0)

    @property
    def problems(self) -> list[str]:
        """`check-data`'s words about each problem."""
        return problem_words(self.check)

    def measure(self) -> Fingerprint:
        """Return the fingerprint; see `measure`."""
        return measure(self.file, self.crowd, self.check.paths.values())

    def split(self, folder: Path) -> tuple[str, str]:
        """Write two splits; see `split_dataset`."""
        self.file.check()
        return split_dataset(self, folder)


def in_place(text: str) -> str:
    """Return the name in configs of what a flag names: ANNOTATIONS.json:IMAGE_DIR, or any name."""
    is_pair = text.count(":") == 1 and text.partition(":")[0].lower().endswith(_JSON)
    return f"{PREFIX}{text}" if is_pair else text


def read_dataset(name: str, reading: Reading | None = None) -> Dataset:
    """Read and check a dataset.

    Args:
        name: as configs name it.
        reading: how its image files are read; by default `Reading()`.

    Raises:
        DataError: it can't be read, or is none of instances.
    """
    if evaluator_of(name) != "coco":
        raise DataError(
            f"{name}: folds are of datasets of instances. For labels that are pictures, and for "
            "datasets with other metrics than COCO's, name a validation set in DATASETS.TEST."
        )
    metadata = MetadataCatalog.get(name)
    if not metadata.get("json_file"):
        file = records_as_file(name)
        return Dataset(name, file, "", "", check_dataset(file, "", reading=reading))
    crowd, folder = metadata.get("crowd", ""), metadata.image_root
    file = read_coco_file(metadata.json_file, folder)
    check = check_coco_dataset(metadata.json_file, folder, crowd=crowd, reading=reading)
    return Dataset(name, file, folder, crowd, check)


def evaluator_of(name: str) -> str:
    """Return the `evaluator_type` of a dataset, which is registered if it is named in place.

    Raises:
        DataError: there is no such dataset.
    """
    register_in_place([name])
    found = MetadataCatalog.get(name).get("evaluator_type") if name else None
    if found is None:
        check_datasets([name])  # raises an error that says what to write
    return str(found)


def refuse_problems(name: str, problems: Sequence[str]) -> None:
    """Refuse data with problems.

    Args:
        name: of the dataset.
        problems: `check-data`'s words about each.

    Raises:
        DataError: the first problem, and how many there are.
    """
    if not problems:
        return
    rest = len(problems) - 1
    more = f" `check-data` names {rest} more." if rest else ""
    raise DataError(f"{name}: {problems[0]}{more} --anyway goes on in spite of this.")


def problem_words(found: Findings) -> list[str]:
    """Return `check-data`'s words about each problem, a line each."""
    words = []
    for kind in found.problems:
        what = found.found[kind]
        named = first_of(what, _NAMED, "; ")
        words.append(f"{len(what)} {kind.title} ({named}). {kind.effect} {kind.remedy}")
    return words


def split_dataset(whole: Dataset, folder: Path) -> tuple[str, str]:
    """Write two splits of a dataset, and return their names; the second is "" for one image.

    Args:
        whole: the dataset, whose file was checked.
        folder: for `train.json` and `val.json`.

    Raises:
        DataError: the splits can't be written.
    """
    splits = split_by_stem(whole.file.content)
    if VAL not in splits:
        return whole.name, ""
    return write_parts(whole, splits, folder)


def write_parts(whole: Dataset, splits: dict[str, dict[str, Any]], folder: Path) -> tuple[str, str]:
    """Write two parts as jsons in COCO's format, and return the names of these datasets in configs.

    Args:
        whole: the dataset, in any form.
        splits: "train" and "val", parts of its content.
        folder: for `train.json` and `val.json`.

    Raises:
        DataError: a file can't be written.
    """
    image_dir = whole.image_dir
    if not image_dir:  # names of images are complete paths
        image_dir = _common_folder(image["file_name"] for image in whole.file.images)
        splits = {split: _named_in(image_dir, part) for split, part in splits.items()}
    paths = write_splits(splits, folder)
    option = f"?crowd={whole.crowd}" if whole.crowd else ""
    train, val = (f"{PREFIX}{paths[split]}:{image_dir}{option}" for split in (TRAIN, VAL))
    return train, val


def _common_folder(paths: Iterable[str]) -> str:
    """Return the folder that all files are in, relative to the current one if all paths are so."""
    folders = {os.path.dirname(path) for path in paths}
    if any(map(os.path.isabs, folders)):
        folders = set(map(os.path.abspath, folders))
    return os.path.commonpath(folders) or os.curdir


def _named_in(folder: str, part: dict[str, Any]) -> dict[str, Any]:
    """Return the content of a json whose images are named relative to a folder."""
    images = [
        image | {"file_name": Path(os.path.relpath(image["file_name"], folder)).as_posix()}
        for image in part["images"]
    ]
    return part | {"images": images}
