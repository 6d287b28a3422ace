"""Draw what a model makes of a picture on the way to its masks."""

import argparse
from pathlib import Path

from ..methods.instance_fcn import score_maps
from ..methods.sparse_inst import activation_pictures
from .opts import add_opts_argument

DEFAULT_OUTPUT = Path("output/visualize-results")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--activation-maps",
        action="store_true",
        help="SparseInst: each instance's activation map beside its mask, for --input's pictures",
    )
    what.add_argument(
        "--activation-statistics",
        action="store_true",
        help="SparseInst: the mean response of --maps over DATASETS.TEST, or --input's pictures",
    )
    what.add_argument(
        "--score-maps",
        action="store_true",
        help="InstanceFCN: the score maps of --input's picture and the mask of a window",
    )
    parser.add_argument("--config-file", required=True, metavar="FILE", help="the model's config")
    parser.add_argument(
        "--input", nargs="+", metavar="PATH", default=[], help="pictures, folders or quoted globs"
    )
    parser.add_argument(
        "--maps", nargs="+", type=int, default=list(range(8)), help="(default: 0 to 7)"
    )
    parser.add_argument(
        "--window",
        type=float,
        nargs=2,
        metavar=("X", "Y"),
        help="centre of the window, in pixels of the picture (default: of the best proposal)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=DEFAULT_OUTPUT,
        metavar="PATH",
        help=f"a folder, or the one picture's file (default: {DEFAULT_OUTPUT})",
    )
    parser.add_argument(
        "--confidence-threshold", type=float, default=0.5, help="the least score (default: 0.5)"
    )
    add_opts_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Draws what was asked for, and returns the exit status.

    Raises:
        SoloFamilyError: a flag, a file or a config key can't work.
    """
    return (score_maps if args.score_maps else activation_pictures).run(args)
