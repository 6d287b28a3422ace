"""Attribute the AP that a model loses to types of errors, from predictions and ground truth."""

import argparse
import math
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog
from pycocotools.coco import COCO
from tabulate import tabulate

from ..config import setup_cfg
from ..data.formats.dataset_classes import dataset_classes
from ..data.formats.register import register_in_place, split_crowd
from ..errors import ConfigError, DataError, SoloFamilyError
from ..evaluation.coco_results import read_dataset_truth, read_results, read_truth
from ..evaluation.error_analysis import METRICS, analyse_errors
from ..evaluation.error_fixes import ERRORS
from ..evaluation.error_types import SIZES, PredictionType, TruthType
from ..evaluation.kinds import KINDS
from ..evaluation.oracle import BACKGROUND_IOU
from .error_picture import draw_errors
from .opts import add_opts_argument
from .writers import make_folder, write_json

DEFAULT_OUTPUT = Path("output/errors")
_CATEGORIES = 10  # categories that are printed, those with the most errors, at most


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `errors`."""
    truth = parser.add_mutually_exclusive_group(required=True)
    truth.add_argument(
        "--config-file", metavar="FILE", help="config whose DATASETS.TEST is the ground truth"
    )
    truth.add_argument("--annotations", metavar="FILE", help="or the COCO json of the ground truth")
    parser.add_argument(
        "--predictions",
        required=True,
        metavar="FILE",
        help="COCO results with masks, e.g. output/inference/coco_instances_results.json",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=DEFAULT_OUTPUT,
        metavar="FOLDER",
        help=f"folder of errors.json and errors.png (default: {DEFAULT_OUTPUT})",
    )
    parser.add_argument(
        "--iou-threshold",
        type=float,
        default=0.5,
        help="the lowest IoU at which a mask is correct (default: 0.5)",
    )
    add_opts_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Print tables, write errors.json and errors.png, and return the exit status.

    Raises:
        SoloFamilyError: a flag, a config key or a file can't work.
    """
    if not BACKGROUND_IOU < args.iou_threshold <= 1:  # also refuses NaN
        raise SoloFamilyError(
            f"--iou-threshold is {args.iou_threshold}; it must be above {BACKGROUND_IOU}, "
            "below which everything is background, and at most 1."
        )
    annotations, truth = _read_truth(args)
    results = read_results(args.predictions, truth)
    make_folder(args.output)
    analysis = analyse_errors(truth, results, args.iou_threshold)
    files = {"annotations_file": annotations, "predictions_file": args.predictions}
    write_json(args.output / "errors.json", files | analysis)
    draw_errors(args.output / "errors.png", analysis)
    print("\n" + describe(analysis))
    print(f"\nall numbers: {args.output / 'errors.json'}")
    print(f"picture:     {args.output / 'errors.png'}")
    return 0


def _read_truth(args: argparse.Namespace) -> tuple[str, COCO]:
    """Return the path of the annotation file, and its ground truth."""
    if args.annotations:
        if args.opts:
            raise SoloFamilyError(
                "--opts changes a config, and --annotations needs none: remove it."
            )
        annotations, crowd = split_crowd(args.annotations)
        return annotations, read_truth(annotations, crowd=crowd)
    name = _dataset_of(args.config_file, args.opts)
    return MetadataCatalog.get(name).get("json_file") or name, read_dataset_truth(name)


def _dataset_of(config_file: str, opts: list[str]) -> str:
    """Return the name of a config's dataset of instances."""
    # No model is built, so a missing GPU needs no warning.
    cfg = setup_cfg(config_file, [*opts, "MODEL.DEVICE", "cpu"])
    names = cfg.DATASETS.TEST
    if len(names) != 1:
        raise ConfigError(
            f"DATASETS.TEST of {config_file} names {len(names)} datasets, but predictions are of "
            "one. End the command with --opts DATASETS.TEST \"('NAME',)\", or give "
            "--annotations FILE instead of --config-file."
        )
    register_in_place(names)
    metadata = MetadataCatalog.get(names[0])
    evaluator, file = metadata.get("evaluator_type"), metadata.get("json_file")
    if evaluator == "lvis":
        raise DataError(
            f"Dataset {names[0]!r} is LVIS's, which names the classes of an image that are "
            "annotated; this analysis takes an object without an annotation for a mistake. Name a "
            "dataset all of whose objects are annotated."
        )
    kinds = KINDS.get(evaluator, ())
    # detectron2's own panoptic datasets name the file of their instances.
    if kinds and not file and all(kind.task != "instance" for kind in kinds):
        raise DataError(
            f"Dataset {names[0]!r} has labels of {kinds[-1].task} segmentation, and these errors "
            "are those of instances. Give the COCO json of the instances with --annotations FILE, "
            "instead of --config-file."
        )
    if not (file or names[0] in DatasetCatalog.list()) or not dataset_classes(names[0]):
        raise DataError(
            f"Dataset {names[0]!r} is not registered with a COCO-format annotation file. "
            "Give --annotations FILE instead of --config-file."
        )
    return names[0]


def describe(analysis: dict[str, Any]) -> str:
    """Return the tables that the terminal shows."""
    return "\n\n".join(
        [_describe_oracles(analysis), _describe_errors(analysis), _describe_categories(analysis)]
    )


def _describe_oracles(analysis: dict[str, Any]) -> str:
    rows = [
        [name, *(_number(metrics[key]) for key in METRICS)]
        for name, metrics in analysis["oracles"].items()
    ]
    title = "AP, and what it would be with ground-truth masks or classes"
    return f"{title}\n{_tabulate(rows, ['', *METRICS])}"


def _describe_errors(analysis: dict[str, Any]) -> str:
    threshold = analysis["iou_threshold"]
    name = f"AP{100 * threshold:g}"
    counts = analysis["predictions"] | {TruthType.MISSED: analysis["ground_truth"]["missed"]}
    rows = [
        [
            str(error),
            _number(analysis["gain"][error]["all"], "+.1f"),
            *(str(counts[error][size]) for size in ("all", *SIZES)),
        ]
        for error in ERRORS
    ]
    table = _tabulate(rows, ["", f"{name} gained", "number", *SIZES])
    now = _number(analysis["AP_at_threshold"]["all"])
    title = f"Errors at IoU {threshold:g}, and what fixing one type of them adds to {name} {now}"
    return f"{title}\n{table}\n\n{_describe_rest(analysis)}"


def _describe_rest(analysis: dict[str, Any]) -> str:
    predictions, truths = (
        {kind: sizes["all"] for kind, sizes in analysis[part].items()}
        for part in ("predictions", "ground_truth")
    )
    ignored = predictions[PredictionType.CROWD]
    return (
        f"{sum(predictions.values())} predictions: {predictions[PredictionType.CORRECT]} correct, "
        f"{ignored} that COCO doesn't count, the others as above\n"
        f"{sum(truths.values())} ground-truth masks: {truths[TruthType.FOUND]} found, "
        f"{truths[TruthType.MISTAKEN]} mistaken (of wrong class, or a poor mask), "
        f"{truths[TruthType.MISSED]} missed, {truths[TruthType.CROWD]} crowds"
    )


def _describe_categories(analysis: dict[str, Any]) -> str:
    categories = sorted(analysis["categories"], key=_num_errors, reverse=True)
    rows = [
        [
            category["name"],
            _number(category["oracles"]["as predicted"]),
            *(str(_num_errors_of(category, error)) for error in ERRORS),
        ]
        for category in categories[:_CATEGORIES]
    ]
    title = "Numbers of errors, by category"
    if len(categories) > _CATEGORIES:
        title += f": the {_CATEGORIES} of {len(categories)} with most"
    return f"{title}\n{_tabulate(rows, ['', 'AP', *map(str, ERRORS)])}"


def _num_errors(category: dict[str, Any]) -> int:
    return sum(_num_errors_of(category, error) for error in ERRORS)


def _num_errors_of(category: dict[str, Any], error: str) -> int:
    part = "ground_truth" if error == TruthType.MISSED else "predictions"
    return category[part][error]["all"]


def _number(value: float | None, form: str = ".1f") -> str:
    return "-" if value is None or math.isnan(value) else format(value, form)


def _tabulate(rows: list[list[str]], headers: list[str]) -> str:
    align = ["left", *["right"] * (len(headers) - 1)]
    return tabulate(rows, headers, tablefmt="simple", colalign=align, disable_numparse=True)
