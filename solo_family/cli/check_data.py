"""Report all that is wrong with a COCO-format dataset, and how large its objects are."""

import argparse
import sys
from collections.abc import Iterator

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from tabulate import tabulate

from ..config import setup_cfg
from ..data.checks.dataset_check import DatasetCheck, check_coco_dataset
from ..data.checks.findings import Kind
from ..data.formats.register import check_datasets, register_in_place
from ..errors import DataError, SoloFamilyError
from ..methods.grid.config import grid_keys
from .object_sizes import table_of_areas, table_of_levels
from .opts import add_opts_argument

_NAMED = 5  # so many examples are named for each type of problem


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `check-data`."""
    parser.add_argument(
        "--config-file",
        metavar="FILE",
        help="config whose DATASETS.TRAIN and TEST are checked; its grid determines which objects "
        "it learns",
    )
    parser.add_argument("--annotations", metavar="FILE", help="check this COCO-format json instead")
    parser.add_argument("--images", metavar="DIR", help="folder of the json's images")
    parser.add_argument(
        "--decode",
        action="store_true",
        help="decode every image completely, not its header alone: reveals truncated files",
    )
    add_opts_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Print the problems, and return the exit status.

    Returns:
        0, 1 if something needs to be fixed, 2 if a dataset of the config can't be read at all.

    Raises:
        SoloFamilyError: the flags, the config or the json can't work.
    """
    if (args.annotations is None) != (args.images is None):
        raise SoloFamilyError("--annotations FILE and --images DIR go together.")
    if args.annotations is None and args.config_file is None:
        raise SoloFamilyError("Give --config-file FILE, or --annotations FILE and --images DIR.")
    cfg = setup_cfg(args.config_file, args.opts) if args.config_file else None
    if args.annotations is not None:
        check = check_coco_dataset(args.annotations, args.images, decode_images=args.decode)
        return _report(args.annotations, check, cfg)
    assert cfg is not None
    return max((_run_one(name, cfg, args.decode) for name in _names(cfg)), default=0)


def _names(cfg: CfgNode) -> Iterator[str]:
    yield from dict.fromkeys((*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST))


def _run_one(name: str, cfg: CfgNode, decode: bool) -> int:
    """Check a dataset of a config, without an error if it can't be read."""
    try:
        register_in_place([name])
        metadata = MetadataCatalog.get(name)
        if metadata.get("evaluator_type") != "coco":
            check_datasets([name])
            print(f"{name}: it can be read. Only COCO-format datasets are checked further.\n")
            return 0
        check = check_coco_dataset(metadata.json_file, metadata.image_root, decode_images=decode)
    except DataError as error:
        print(f"error: {error}\n", file=sys.stderr)
        return 2
    return _report(name, check, cfg)


def _report(name: str, check: DatasetCheck, cfg: CfgNode | None) -> int:
    print(
        f"{name}\n{check.num_images} images, {check.num_annotations} annotations, "
        f"{check.num_categories} categories\n"
    )
    for kind in check.problems:
        _print_kind("problem", kind, check.found[kind])
    for kind in check.remarks:
        _print_kind("note", kind, check.found[kind])
    if check.num_annotations:
        _print_sizes(check, cfg)
    count = len(check.problems)
    print("no problems\n" if not count else f"{count} type{'s' * (count > 1)} of problem\n")
    return 1 if count else 0


def _print_kind(word: str, kind: Kind, what: list[str]) -> None:
    rest = len(what) - _NAMED
    named = "; ".join(what[:_NAMED]) + (f"; and {rest} more" if rest > 0 else "")
    print(f"{word}: {len(what)} {kind.title}\n  {named}\n  {kind.effect} {kind.remedy}".rstrip())
    print()


def _print_sizes(check: DatasetCheck, cfg: CfgNode | None) -> None:
    has_grid = cfg is not None and grid_keys(cfg, cfg.MODEL.META_ARCHITECTURE) is not None
    print(f"{len(check.boxes)} objects to learn")
    if cfg is None or not has_grid:
        header, rows = table_of_areas(check)
        print(tabulate(rows, header, disable_numparse=True), end="\n\n")
        return
    header, rows = table_of_levels(cfg, check)
    print(tabulate(rows, header, disable_numparse=True))
    if any(count != "0" for count in rows[-1][3:]):
        print(
            "Objects on no level are not learnt: change FPN_SCALE_RANGES or INPUT.MIN_SIZE_TRAIN."
        )
    print()
