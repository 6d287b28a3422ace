"""Split a dataset for cross-validation: each image is for validation once."""

from collections import defaultdict
from typing import Any

from ..data.formats.splits import TRAIN, VAL
from ..errors import DataError
from .split import part_of, stem_of

# A group with more than this share of the images can't be one fold of several.
_LARGE = 0.5


def split_folds(content: dict[str, Any], folds: int) -> list[dict[str, dict[str, Any]]]:
    """Split a dataset into folds with about equally many images each.

    Images with the same stem are in one fold, so that near-duplicates don't straddle. Where there
    are fewer stems than folds, or one has more than half of the images (the frames of one film),
    each fold is a run of images in the order of their names: only its ends have neighbours outside.

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
    fold_of = _by_stem(images, folds) or {
        image["id"]: place * folds // len(images) for place, image in enumerate(images)
    }
    return [
        {
            TRAIN: part_of(content, [image for image in images if fold_of[image["id"]] != fold]),
            VAL: part_of(content, [image for image in images if fold_of[image["id"]] == fold]),
        }
        for fold in range(folds)
    ]


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
