"""Split a dataset so that pictures of one thing are on one side."""

import re
from collections import Counter, defaultdict
from pathlib import PurePosixPath
from typing import Any

from ..data.formats.splits import TRAIN, VAL

_EVERY = 5
# "a_1", "a-2", "a (3)", "a_copy", "a_png.rf.0123456789abcdef" (Roboflow) are pictures of "a".
_ENDINGS = re.compile(
    r"(?:[_\-. ]?(?:jpe?g|png|bmp|tiff?))?\.rf\.[0-9a-f]{16,}$|[_\-. ]+\(?\d+\)?$|[_\-. ]+copy$",
    re.IGNORECASE,
)


def stem_of(file_name: str) -> str:
    """Return what near-duplicates have in common: the name without suffix, numbers and "copy"."""
    path = PurePosixPath(str(file_name).replace("\\", "/"))
    stem = path.with_suffix("").as_posix() if path.name else str(file_name)
    while shorter := _ENDINGS.sub("", stem):
        if shorter == stem or shorter.endswith("/"):
            break
        stem = shorter
    return stem


def split_by_stem(content: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Split a dataset into about four fifths for training and one fifth for validation.

    Every fifth group of images, in the order of names, is for validation; images of a group have
    the same stem. A group stays in training if no other group there has one of its classes. Where
    groups are so large that more than half of the images would be for validation, or none (the
    frames of one film), the last fifth of the images in the order of names is: only the first of
    these has a neighbour in training.

    Args:
        content: of a COCO-format json that was checked.

    Returns:
        "train" and "val", as `split_coco`; "train" alone if there is one image.
    """
    images = sorted(content["images"], key=lambda image: str(image["file_name"]))
    if len(images) < 2:
        return {TRAIN: content}
    groups: dict[str, set[Any]] = defaultdict(set)
    for image in images:
        groups[stem_of(image["file_name"])].add(image["id"])
    chosen = _validation(list(groups.values()), _classes_of_images(content))
    if not 0 < 2 * len(chosen) <= len(images):
        chosen = {image["id"] for image in images[-max(1, len(images) // _EVERY) :]}
    shares = {
        TRAIN: [image for image in images if image["id"] not in chosen],
        VAL: [image for image in images if image["id"] in chosen],
    }
    return {split: part_of(content, share) for split, share in shares.items()}


def _validation(groups: list[set[Any]], classes: dict[Any, set[Any]]) -> set[Any]:
    """Return the ids of the images of every fifth group, or the last if there are fewer."""
    val = groups[_EVERY - 1 :: _EVERY] or groups[-1:]
    train = [group for group in groups if group not in val]
    counts = Counter(c for group in train for image in group for c in classes[image])
    chosen: set[Any] = set()
    for group in val:
        held = [c for image in group for c in classes[image]]
        if all(counts[c] for c in held):
            chosen |= group
        else:
            counts.update(held)
    return chosen


def _classes_of_images(content: dict[str, Any]) -> dict[Any, set[Any]]:
    classes: dict[Any, set[Any]] = defaultdict(set)
    for annotation in content.get("annotations", []):
        classes[annotation["image_id"]].add(annotation["category_id"])
    return classes


def part_of(content: dict[str, Any], images: list[Any]) -> dict[str, Any]:
    """Return the content of a json with these images only, and their annotations."""
    ids = {image["id"] for image in images}
    annotations = [a for a in content.get("annotations", []) if a["image_id"] in ids]
    return content | {"images": images, "annotations": annotations}
