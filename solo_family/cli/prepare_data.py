"""Make the label files that published configs name from a public dataset's originals."""

import argparse
import os
from pathlib import Path

from ..data.prepare import ade20k, coco_2014, coco_stuff, voc_sbd

DATASETS = {
    "ade20k": ade20k.prepare,
    "coco-stuff-10k": coco_stuff.prepare,
    "voc-sbd": voc_sbd.prepare,
    "coco-2014-first-5000": coco_2014.prepare,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `prepare-data`."""
    parser.add_argument("dataset", choices=DATASETS, help="the dataset; see docs/datasets.md")
    parser.add_argument(
        "--root",
        type=Path,
        default=Path(os.path.expanduser(os.getenv("DETECTRON2_DATASETS", "datasets"))),
        metavar="DIR",
        help="the folder of all datasets (default: $DETECTRON2_DATASETS, or ./datasets)",
    )


def run(args: argparse.Namespace) -> int:
    """Prepare the dataset, report how many images it has, and return the exit status.

    Raises:
        DataError: the originals are missing or broken.
    """
    for prepared in DATASETS[args.dataset](args.root):
        print(prepared.report())
    return 0
