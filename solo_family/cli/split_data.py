"""Split a COCO-format dataset: every fifth image for validation, the others for training."""

import argparse
from pathlib import Path
from typing import Any

from ..data.formats.coco_file import read_coco_file
from ..data.formats.splits import DEFAULT_VAL_EVERY, TRAIN, VAL, split_coco, write_splits
from ..errors import DataError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `split-data`."""
    parser.add_argument("annotations", type=Path, help="COCO-format json to split")
    add_split_arguments(parser)


def add_split_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of verbs that write splits."""
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder for train.json and val.json",
    )
    parser.add_argument(
        "--val-every",
        type=int,
        default=DEFAULT_VAL_EVERY,
        metavar="N",
        help="use every N-th image, in the order of their names, for validation (default: 5)",
    )


def run(args: argparse.Namespace) -> int:
    """Write the two files, report what is in them, and return the exit status.

    Raises:
        DataError: the json can't be used, or would be overwritten.
    """
    file = read_coco_file(str(args.annotations))
    file.check()
    write_and_report(file.content, args, source=args.annotations)
    return 0


def write_and_report(
    content: dict[str, Any], args: argparse.Namespace, source: Path | None = None
) -> None:
    """Write the splits of a dataset, but never over its source.

    Args:
        content: the content of the whole dataset's json.
        args: the split flags.
        source: the file that must not be overwritten.

    Raises:
        DataError: a split would overwrite the source.
    """
    splits = split_coco(content, args.val_every)
    if source is not None and source.resolve() in [
        (args.output / f"{split}.json").resolve() for split in splits
    ]:
        raise DataError(f"{source} would be overwritten: name another --output.")
    for split, path in write_splits(splits, args.output).items():
        part = splits[split]
        print(f"{path}: {len(part['images'])} images, {len(part['annotations'])} objects")
    print("classes: " + ", ".join(str(c["name"]) for c in content["categories"]))
    _name_lopsided(splits, args.val_every)


def _name_lopsided(splits: dict[str, dict[str, Any]], val_every: int) -> None:
    """Say which classes have objects in one split alone."""
    used = {
        split: {annotation["category_id"] for annotation in part["annotations"]}
        for split, part in splits.items()
    }
    names = {category["id"]: str(category["name"]) for category in splits[TRAIN]["categories"]}
    for split, other, what in (
        (VAL, TRAIN, "can't be learnt"),
        (TRAIN, VAL, "is not measured"),
    ):
        alone = [name for key, name in names.items() if key in used[split] - used[other]]
        if alone:
            print(
                f"in {split}.json alone, so that it {what}: {', '.join(alone)}. If there are more "
                f"images of it, give another --val-every than {val_every}."
            )
