"""Split a dataset so that pictures of one thing are on one side, and classes on both."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

from ..data.formats.splits import TRAIN, VAL

_EVERY = 5
_LEAST = 0.1  # of the images, for validation
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
    these are less than a tenth of the images, because a few groups have most of them, the largest
    groups that together have at most a fifth are for validation. Where groups are so large that
    more than half of the images would be for validation, or none (the frames of one film, or images
    that are named by their classes), `_last` are. If none of all these has an object, another one
    that has is added.

    Args:
        content: of a COCO-format json that was checked.

    Returns:
        "train" and "val", as `split_coco`; "train" alone if training needs every image.
    """
    images = sorted(content["images"], key=lambda image: str(image["file_name"]))
    if len(images) < 2:
        return {TRAIN: content}
    groups: dict[str, set[Any]] = defaultdict(set)
    for image in images:
        groups[stem_of(image["file_name"])].add(image["id"])
    ids, classes = list(groups.values()), classes_of_images(content)
    every = range(_EVERY - 1, len(ids), _EVERY) or [len(ids) - 1]
    chosen = _validation(ids, every, classes)
    if len(chosen) < _LEAST * len(images):
        chosen = max(chosen, _validation(ids, _largest(ids), classes), key=len)
    if not 0 < 2 * len(chosen) <= len(images):
        chosen = _last([image["id"] for image in images], classes)
    if not chosen:
        return {TRAIN: content}
    if not any(classes[identity] for identity in chosen):
        chosen = _with_objects(chosen, ids, classes)
    shares = {
        TRAIN: [image for image in images if image["id"] not in chosen],
        VAL: [image for image in images if image["id"] in chosen],
    }
    return {split: part_of(content, share) for split, share in shares.items()}


def _largest(groups: list[set[Any]]) -> list[int]:
    """Return the places of the largest groups that together have at most a fifth of the images."""
    left = sum(map(len, groups)) // _EVERY
    taken = []
    for place in sorted(range(len(groups)), key=lambda place: -len(groups[place])):
        if len(groups[place]) <= left:
            left -= len(groups[place])
            taken.append(place)
    return taken


def _validation(
    groups: list[set[Any]], places: Sequence[int], classes: dict[Any, set[Any]]
) -> set[Any]:
    """Return the ids of the images of some groups, but those that training needs.

    Args:
        groups: the ids of the images of each.
        places: of those that may be for validation.
        classes: of each image, by its id.
    """
    held = set(places)
    train = [group for place, group in enumerate(groups) if place not in held]
    counts = Counter(c for group in train for image in group for c in classes[image])
    chosen: set[Any] = set()
    for group in (groups[place] for place in places):
        labels = [c for image in group for c in classes[image]]
        if all(counts[c] for c in labels):
            chosen |= group
        else:
            counts.update(labels)
    return chosen


def _with_objects(
    chosen: set[Any], groups: list[set[Any]], classes: dict[Any, set[Any]]
) -> set[Any]:
    """Return images for validation with the last group, or image, that has objects, if possible.

    Without an object nothing can be measured.

    Args:
        chosen: the ids of images without objects.
        groups: the ids of the images of each.
        classes: of each image, by its id.
    """
    count = sum(map(len, groups))
    for parts in (groups, [{identity} for group in groups for identity in sorted(group)]):
        for place in reversed(range(len(parts))):
            if not any(classes[identity] for identity in parts[place]):
                continue
            more = chosen | _validation(parts, [place], classes)
            if len(chosen) < len(more) and 2 * len(more) <= count:
                return more
    return chosen


def _last(ids: Sequence[Any], classes: dict[Any, set[Any]]) -> set[Any]:
    """Return the last fifth of the images, of which only the first has a neighbour in training.

    Where a class with five images or more would be on one side alone, because images are in the
    order of their classes, it is the last fifth of each class.

    Args:
        ids: of the images, in the order of their names.
        classes: of each image, by its id.
    """
    chosen = set(ids[-max(1, len(ids) // _EVERY) :])
    if is_lopsided(ids, chosen, classes):
        runs = runs_of_classes(ids, classes)
        chosen = {i for run in runs for i in run[len(run) - len(run) // _EVERY :]} or chosen
    places = [place for place, identity in enumerate(ids) if identity in chosen]
    return _validation([{identity} for identity in ids], places, classes)


def is_lopsided(ids: Sequence[Any], chosen: set[Any], classes: dict[Any, set[Any]]) -> bool:
    """Return whether a class that five images or more have is in chosen ones alone, or in none."""
    counts = Counter(c for identity in ids for c in classes[identity])
    there = Counter(c for identity in chosen for c in classes[identity])
    return any(count >= _EVERY and there[c] in (0, count) for c, count in counts.items())


def runs_of_classes(ids: Sequence[Any], classes: dict[Any, set[Any]]) -> list[list[Any]]:
    """Return the images by the rarest class that each has; those without a class are a run, too.

    Args:
        ids: of the images, whose order runs keep.
        classes: of each image, by its id.
    """
    counts = Counter(c for identity in ids for c in classes[identity])
    runs: dict[Any, list[Any]] = defaultdict(list)
    for identity in ids:
        rarest = min(classes[identity], key=lambda c: (counts[c], str(c)), default=None)
        runs[rarest].append(identity)
    return list(runs.values())


def classes_of_images(content: dict[str, Any]) -> dict[Any, set[Any]]:
    """Return the ids of the classes of each image, by its id."""
    classes: dict[Any, set[Any]] = defaultdict(set)
    for annotation in content.get("annotations", []):
        classes[annotation["image_id"]].add(annotation["category_id"])
    return classes


def part_of(content: dict[str, Any], images: list[Any]) -> dict[str, Any]:
    """Return the content of a json with these images only, and their annotations."""
    ids = {image["id"] for image in images}
    annotations = [a for a in content.get("annotations", []) if a["image_id"] in ids]
    return content | {"images": images, "annotations": annotations}
