"""Write the report of a training run: curves, errors, confusions, and how sure the figures are."""

import argparse
from pathlib import Path

from ..config import setup_cfg
from ..errors import DataError
from ..report.evaluated import evaluation_of
from ..report.write import write_report
from .opts import add_opts_argument
from .threshold import check_score

_CONFIG = "config.yaml"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `report`."""
    parser.add_argument("run", type=Path, metavar="RUN", help="the OUTPUT_DIR of a training")
    parser.add_argument(
        "--confidence-threshold",
        type=float,
        metavar="SCORE",
        help="of the tables and pictures (default: the one with the best F1)",
    )
    add_opts_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Write RUN/report, and return the exit status.

    Raises:
        ConfigError: the threshold is no score.
        DataError: the folder is none of a run, or its data can't be read.
    """
    check_score(args.confidence_threshold)
    path = args.run / _CONFIG
    if not path.is_file():
        raise DataError(
            f"{args.run} has no {_CONFIG}: name the OUTPUT_DIR of a training, which has one."
        )
    evaluated = evaluation_of(args.run)
    if evaluated is not None:
        path = args.run / evaluated.config
    # No model is built, so a missing GPU needs no warning.
    cfg = setup_cfg(str(path), [*args.opts, "MODEL.DEVICE", "cpu"])
    try:
        print(write_report(cfg, args.run, args.confidence_threshold))
    except OSError as error:
        raise DataError(
            f"The report of {args.run} can't be written ({error}). It needs a folder, and room on "
            "its drive, that you may write to: copy the run there, and name the copy."
        ) from error
    return 0
