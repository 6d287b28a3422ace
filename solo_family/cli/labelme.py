"""Turn labelme's files, a json beside each image, into a COCO-format dataset in two splits."""

import argparse
import logging
from pathlib import Path

from ..data.formats.labelme import read_labelme
from ..data.formats.splits import TRAIN, VAL
from ..errors import DataError
from .split_data import add_split_arguments, write_and_report

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `labelme`."""
    parser.add_argument(
        "folder", type=Path, help="folder of images with labelme's json files beside them"
    )
    add_split_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Write the dataset, and return the exit status: 1 if shapes were dropped.

    Raises:
        DataError: a file can't be used; the message names it, and the shape.
    """
    if not args.folder.is_dir():
        raise DataError(f"There is no folder {args.folder}. Name the one that labelme writes to.")
    earlier = [args.output / f"{split}.json" for split in (TRAIN, VAL)]
    content, left_out = read_labelme(args.folder, ignored=earlier)
    for what in left_out:
        logger.warning("dropped: %s", what)
    write_and_report(content, args)
    return 1 if left_out else 0
