"""Split a dataset whose labels are pictures, without copying pictures.

N images.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detectron2.data import MetadataCatalog

from ..data.checks.relations import same_pictures
from ..data.formats.panoptic_dataset import read_panoptic_json
from ..data.formats.register import PANOPTIC_PREFIX, SEMANTIC_PREFIX
from ..data.formats.splits import TRAIN, VAL, write_splits
from ..errors import DataError
from ..files import replacing
from .split import split_by_stem

_ADVICE = "Name the dataset for validation with --val."
_CLASSES = "classes.txt"
_IMAGES, _LABELS = "images", "labels"

Records = Sequence[dict[str, Any]]


def write_label_splits(
    name: str, records: Records, labels: Sequence[set[int]], classes: Sequence[str], folder: Path
) -> tuple[str, str]:
    """Write two splits of a dataset, and return their names in configs.

    Images are divided as those of instances are (`split_by_stem`); files with the same content stay
    on one side.

    Args:
        name: of the dataset.
        records: detectron2's dicts, [N].
        labels: [N], the classes that each image has.
        classes: the names of the classes.
        folder: for the splits: folders of links to the images and to semantic labels, or the jsons
            of panoptic labels.

    Returns:
        The two names; for one image the given name and "".

    Raises:
        DataError: the splits can't be written.
    """
    paths = [record["file_name"] for record in records]
    keys = _keys(paths)
    names = dict(enumerate(keys))
    for first, *others in same_pictures(dict(enumerate(paths))):
        names |= dict.fromkeys(others, keys[first])
    splits = split_by_stem(
        {
            "images": [{"id": place, "file_name": key} for place, key in names.items()],
            "annotations": [
                {"image_id": place, "category_id": label}
                for place, found in enumerate(labels)
                for label in sorted(found)
            ],
        }
    )
    if VAL not in splits:
        return name, ""
    chosen = {split: [image["id"] for image in part["images"]] for split, part in splits.items()}
    if "pan_seg_file_name" in records[0]:
        return _write_panoptic(name, chosen, folder)
    return _write_semantic(name, records, keys, chosen, classes, folder)


def _keys(paths: Sequence[str]) -> list[str]:
    """Return the names of files below the folder that all of them are in."""
    whole = [os.path.abspath(path) for path in paths]
    root = os.path.commonpath([os.path.dirname(path) for path in whole])
    return [Path(os.path.relpath(path, root)).as_posix() for path in whole]


def _write_semantic(
    name: str,
    records: Records,
    keys: Sequence[str],
    chosen: dict[str, list[int]],
    classes: Sequence[str],
    folder: Path,
) -> tuple[str, str]:
    """Write folders of links, and a file of the classes' names."""
    try:
        for split, places in chosen.items():
            for place in places:
                record, key = records[place], Path(keys[place])
                label = record["sem_seg_file_name"]
                _link(folder / split / _IMAGES / key, record["file_name"])
                # Labels have their image's name, which they may not have had before.
                _link(folder / split / _LABELS / key.with_suffix(Path(label).suffix), label)
        with replacing(folder / _CLASSES) as temporary:
            temporary.write_text("".join(f"{text}\n" for text in classes), encoding="utf-8")
    except OSError as error:
        raise DataError(
            f"{name} can't be split: links to its files can't be made in {folder} "
            f"({error.strerror or error}). {_ADVICE}"
        ) from error
    ignored = MetadataCatalog.get(name).get("ignore_label", 255)
    train, val = (
        f"{SEMANTIC_PREFIX}{folder / split / _IMAGES}:{folder / split / _LABELS}:"
        f"{folder / _CLASSES}:{ignored}"
        for split in (TRAIN, VAL)
    )
    return train, val


def _link(path: Path, target: str) -> None:
    """Make a link that, if both are below the current folder, can be moved with its target."""
    path.parent.mkdir(parents=True, exist_ok=True)
    absolute, here = Path(os.path.abspath(target)), Path.cwd()
    parent = path.parent.resolve()  # ".." of a link to a folder is that of what it leads to
    together = absolute.is_relative_to(here) and parent.is_relative_to(here)
    path.symlink_to(os.path.relpath(absolute, parent) if together else absolute)


def _write_panoptic(name: str, chosen: dict[str, list[int]], folder: Path) -> tuple[str, str]:
    """Write jsons with a part of the annotations each, and the images of these."""
    if not name.startswith(PANOPTIC_PREFIX):
        raise DataError(f"{name} can't be split: it is not named in place. {_ADVICE}")
    metadata = MetadataCatalog.get(name)
    content = read_panoptic_json(metadata.panoptic_json)
    splits = {}
    for split, places in chosen.items():
        annotations = [content["annotations"][place] for place in places]
        ids = {annotation["image_id"] for annotation in annotations}
        images = [image for image in content["images"] if image["id"] in ids]
        splits[split] = {**content, "images": images, "annotations": annotations}
    paths = write_splits(splits, folder)
    train, val = (
        f"{PANOPTIC_PREFIX}{metadata.image_root}:{metadata.panoptic_root}:{paths[split]}"
        for split in (TRAIN, VAL)
    )
    return train, val
