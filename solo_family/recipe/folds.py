"""Split a dataset for cross-validation: each image is for validation once."""

from collections import defaultdict
from itertools import accumulate
from typing import Any

from ..data.formats.splits import TRAIN, VAL
from ..errors import DataError
from .split import classes_of_images, part_of, runs_of_classes, stem_of

# A group with more than this share of the images can't be one fold of several.
_LARGE = 0.5
# More than this share of the images are not left without a training that has their class.
_MANY = 0.1


def split_folds(content: dict[str, Any], folds: int) -> list[dict[str, dict[str, Any]]]:
    """Split a dataset into folds with about equally many images each.

    Images with the same stem are in one fold, so that near-duplicates don't straddle. Where there
    are fewer stems than folds, or one has more than half of the images (the frames of one film),
    each fold is a run of images in the order of their names: only its ends have neighbours outside.
    Where many images would have a class that their fold's training lacks, because images are named
    by their classes, each fold has a run of each class.

    Args:
        content: of a COCO-format json that was checked.
        folds: how many; the same content and number give the same folds.

    Returns:
        For each fold "train" and "val", as `split_by_stem` does.

    Raises:
        DataError: there are fewer images than folds.
    """
    images = sorted(content["images"], key=lambda image: str(image["file_name"]))
    if not 2 <= folds <= len(images):
        raise DataError(
            f"{len(images)} images can't be split into {folds} folds. Give --folds from 2 to the "
            "number of images."
        )
    ids, classes = [image["id"] for image in images], classes_of_images(content)
    fold_of = _by_stem(images, folds) or _in_runs([ids], folds)
    unlearnt = len(_unlearnt(fold_of, classes))
    if unlearnt > _MANY * len(images):
        in_runs = _in_runs(runs_of_classes(ids, classes), folds)
        # A class of a single image is unlearnt in its fold however images are split.
        fold_of = in_runs if len(_unlearnt(in_runs, classes)) < unlearnt else fold_of
    return [
        {
            TRAIN: part_of(content, [image for image in images if fold_of[image["id"]] != fold]),
            VAL: part_of(content, [image for image in images if fold_of[image["id"]] == fold]),
        }
        for fold in range(folds)
    ]


def _in_runs(runs: list[list[Any]], folds: int) -> dict[Any, int]:
    """Return the fold of each image's id: each fold has a run of each of the runs."""
    # One after the other, so that the folds of short runs have about equally many images.
    ends = [0, *accumulate(map(len, runs))]
    fold_of = {}
    for run, start in zip(runs, ends):
        first = start % folds if len(run) < folds else 0
        for place, identity in enumerate(run):
            fold_of[identity] = (first + place * folds // max(len(run), folds)) % folds
    return fold_of


def _unlearnt(fold_of: dict[Any, int], classes: dict[Any, set[Any]]) -> set[Any]:
    """Return the ids of the images with a class that no other fold has."""
    folds_of_class: dict[Any, set[int]] = defaultdict(set)
    for identity, fold in fold_of.items():
        for label in classes[identity]:
            folds_of_class[label].add(fold)
    alone = {label for label, found in folds_of_class.items() if len(found) == 1}
    return {identity for identity in fold_of if classes[identity] & alone}


def _by_stem(images: list[dict[str, Any]], folds: int) -> dict[Any, int]:
    """Return the fold of each image's id, or nothing where stems are too few or too large."""
    groups: dict[str, list[Any]] = defaultdict(list)
    for image in images:
        groups[stem_of(image["file_name"])].append(image["id"])
    largest = max(map(len, groups.values()))
    if len(groups) < folds or largest > _LARGE * len(images):
        return {}
    sizes = [0] * folds
    fold_of: dict[Any, int] = {}
    # The largest first, each into the smallest fold.
    for _, ids in sorted(groups.items(), key=lambda group: (-len(group[1]), group[0])):
        fold = sizes.index(min(sizes))
        sizes[fold] += len(ids)
        fold_of.update(dict.fromkeys(ids, fold))
    return fold_of
