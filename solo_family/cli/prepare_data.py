"""Make the label files that published configs name from a public dataset's originals."""

import argparse
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

from ..data.prepare import ade20k, ade20k_full, coco_2014, coco_panoptic, coco_stuff, voc_sbd
from ..data.prepare.files import Prepared
from ..errors import ConfigError

DATASETS: dict[str, Callable[[Path], list[Prepared]]] = {
    "ade20k": ade20k.prepare,
    "ade20k-full": ade20k_full.prepare,
    "coco-panoptic-semseg": coco_panoptic.prepare,
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
    parser.add_argument(
        "--classes",
        type=Path,
        metavar="FILE",
        help="ade20k-full: the 847 classes, a name or number per line (default: those that occur "
        "in both splits)",
    )


def run(args: argparse.Namespace) -> int:
    """Prepare the dataset, report how many images it has, and return the exit status.

    Raises:
        ConfigError: the dataset has no choice of classes.
        DataError: the originals are missing or broken.
    """
    prepare = DATASETS[args.dataset]
    if args.classes is not None:
        if args.dataset != "ade20k-full":
            raise ConfigError(
                f"--classes is for ade20k-full; the classes of {args.dataset} are those of its own "
                "files. Leave the flag out."
            )
        prepare = partial(ade20k_full.prepare, classes=args.classes)
    for prepared in prepare(args.root):
        print(prepared.report())
    return 0
