"""Report all that is wrong with datasets, and how large their objects are."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from tabulate import tabulate

from ..config import setup_cfg
from ..data.checks.dataset_check import (
    DatasetCheck,
    TrainingSizes,
    check_coco_dataset,
    check_dataset,
)
from ..data.checks.findings import NOTHING_TO_LEARN, Findings, Kind
from ..data.checks.fixes import fix_dataset, write_fixed
from ..data.checks.relations import check_splits
from ..data.formats.classes import is_class_agnostic
from ..data.formats.coco_file import read_coco_file
from ..data.formats.coco_json import records_as_file
from ..data.formats.register import check_datasets, register_in_place, split_crowd
from ..data.loading.images import Reading
from ..data.loading.watchdog import TIMEOUT
from ..errors import DataError, SoloFamilyError, first_of
from ..methods.grid.config import grid_keys
from ..recipe.given import reading_of
from ..recipe.label_data import LabelDataset, read_label_dataset, task_of_labels
from .crowding import describe_crowding
from .object_sizes import table_of_areas, table_of_levels, training_sizes
from .opts import add_opts_argument

_NAMED = 5  # examples that are named for each type of problem, at most


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
    parser.add_argument(
        "--write-fixed",
        type=Path,
        metavar="OUT.json",
        help="with --annotations: write a copy in which all unambiguous problems are fixed",
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
    if args.write_fixed is not None and args.annotations is None:
        raise SoloFamilyError("--write-fixed OUT.json goes with --annotations and --images.")
    cfg = setup_cfg(args.config_file, args.opts) if args.config_file else None
    if args.annotations is not None:
        return _run_file(args, cfg)
    assert cfg is not None
    checks = {name: _check_one(name, cfg, args.decode) for name in _names(cfg)}
    status = max((_report(name, check, cfg) for name, check in checks.items()), default=0)
    train, test = (
        {name: found for name in names if (found := _comparable(checks[name])) is not None}
        for names in (cfg.DATASETS.TRAIN, cfg.DATASETS.TEST)
    )
    complete = len(train) == len(set(cfg.DATASETS.TRAIN))
    between = check_splits(train, test, complete and not is_class_agnostic(cfg))
    if train and complete and not any(found.classes for found in train.values()):
        between.add(NOTHING_TO_LEARN, *train)
    if between.problems:
        print("training and validation\n" if test else "training\n")
        _print_found(between)
    return max(status, 1 if between.problems else 0)


def _run_file(args: argparse.Namespace, cfg: CfgNode | None) -> int:
    """Check one json, and write a fixed copy if `--write-fixed` is given."""
    folder, crowd = split_crowd(args.images)
    check = check_coco_dataset(
        args.annotations,
        folder,
        crowd=crowd,
        decode_images=args.decode,
        training_sizes=_sizes(cfg),
        reading=reading_of(args.opts) if cfg is None else Reading.from_config(cfg),
        timeout=TIMEOUT if cfg is None else cfg.DATALOADER.TIMEOUT,
    )
    status = _report(args.annotations, check, cfg)
    if args.write_fixed is not None:
        if args.write_fixed.resolve() == Path(args.annotations).resolve():
            raise DataError(f"{args.annotations} would be overwritten: name another file.")
        content, done = fix_dataset(read_coco_file(args.annotations, folder), folder, crowd)
        write_fixed(content, args.write_fixed)
        what = "; ".join(f"{count} {words}" for words, count in done.items())
        print(f"written to {args.write_fixed}: {what or 'nothing could be fixed automatically'}")
    return status


def _sizes(cfg: CfgNode | None) -> TrainingSizes | None:
    """Return a function that gives the sizes to which training resizes an image, without crops.

    With large-scale jitter it gives the largest size only.
    """
    if cfg is None:
        return None

    def sizes(size: tuple[int, int]) -> list[tuple[int, int]]:
        made = [rows[0].round().int().tolist() for rows in training_sizes(cfg, [size]).values()]
        return [(h, w) for h, w in (made[-1:] if cfg.INPUT.LSJ.ENABLED else made)]

    return sizes


def _names(cfg: CfgNode) -> Iterator[str]:
    yield from dict.fromkeys((*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST))


# None is a dataset that can be read, and is not looked into further.
_Check = DatasetCheck | LabelDataset | DataError | None


def _comparable(check: _Check) -> DatasetCheck | None:
    """Return what is compared between training and validation."""
    if isinstance(check, LabelDataset):
        return check.check
    return check if isinstance(check, DatasetCheck) else None


def _check_one(name: str, cfg: CfgNode, decode: bool) -> _Check:
    """Check a dataset of a config; an unreadable one does not prevent the check of the others.

    Returns:
        The findings; or the error, if it can't be read.
    """
    try:
        register_in_place([name])
        metadata = MetadataCatalog.get(name)
        options: dict[str, Any] = {
            "decode_images": decode,
            "reading": Reading.from_config(cfg),
            "timeout": cfg.DATALOADER.TIMEOUT,
        }
        if metadata.get("evaluator_type") != "coco":
            check_datasets([name])
            task = task_of_labels(name)
            return read_label_dataset(name, task, **options) if task else None
        options["training_sizes"] = _sizes(cfg)
        if not metadata.get("json_file"):
            return check_dataset(records_as_file(name), "", **options)
        return check_coco_dataset(
            metadata.json_file, metadata.image_root, crowd=metadata.get("crowd", ""), **options
        )
    except DataError as error:
        return error


def _report(name: str, check: _Check, cfg: CfgNode | None) -> int:
    """Print the findings, and return the exit status."""
    if isinstance(check, DataError):
        print(f"error: {check}\n", file=sys.stderr)
        return 2
    if check is None:
        print(f"{name}: it can be read. Datasets of this kind are not looked into further.\n")
        return 0
    if isinstance(check, LabelDataset):
        print(f"{name}\n{check.num_images} images, {len(check.classes)} classes\n")
        _print_found(check.check)
        print("".join(f"problem: {text}\n\n" for text in check.contradictions), end="")
        if any(check.regions):
            print(f"{check.measure().contents}\n")
        return _conclude(len(check.problems))
    print(
        f"{name}\n{check.num_images} images, {check.num_annotations} annotations, "
        f"{check.num_categories} categories\n"
    )
    _print_found(check)
    if check.num_annotations:
        _print_sizes(check, cfg)
    return _conclude(len(check.problems))


def _conclude(count: int) -> int:
    """Print how many types of problem there are, and return the exit status."""
    print("no problems\n" if not count else f"{count} type{'s' * (count > 1)} of problem\n")
    return 1 if count else 0


def _print_found(check: Findings) -> None:
    for kind in check.problems:
        _print_kind("problem", kind, check.found[kind])
    for kind in check.remarks:
        _print_kind("note", kind, check.found[kind])


def _print_kind(word: str, kind: Kind, what: list[str]) -> None:
    named = first_of(what, _NAMED, "; ")
    print(f"{word}: {len(what)} {kind.title}\n  {named}\n  {kind.effect} {kind.remedy}".rstrip())
    print()


def _print_sizes(check: DatasetCheck, cfg: CfgNode | None) -> None:
    has_grid = cfg is not None and grid_keys(cfg, cfg.MODEL.META_ARCHITECTURE) is not None
    print(f"{len(check.boxes)} objects to learn")
    if cfg is None or not has_grid:
        header, rows = table_of_areas(check)
        print(tabulate(rows, header, disable_numparse=True))
        print(describe_crowding(check, cfg), end="\n\n")
        return
    header, rows = table_of_levels(cfg, check)
    print(tabulate(rows, header, disable_numparse=True))
    if any(count != "0" for count in rows[-1][3:]):
        print(
            "Objects on no level are not learnt: change FPN_SCALE_RANGES or INPUT.MIN_SIZE_TRAIN."
        )
    print(describe_crowding(check, cfg), end="\n\n")
