"""Gives a checkpoint of another code base the names and the config of this one."""

import argparse
import logging
from pathlib import Path

from ..checkpoint.convert import SUFFIXES, Converted, convert, write
from ..checkpoint.sources import SOURCES
from ..errors import DataError

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("src", type=Path, help="a checkpoint: .pth, .pkl or .safetensors")
    parser.add_argument("dst", type=Path, help=f"what is written: {' or '.join(SUFFIXES)}")
    parser.add_argument(
        "--source",
        default="",
        help=f"where SRC is from, if its names don't tell: {', '.join(SOURCES)}",
    )
    parser.add_argument(
        "--source-config", type=Path, help="the yaml config that SRC was trained with"
    )
    parser.add_argument(
        "--allow-unknown", action="store_true", help="go on without weights that are not known"
    )
    parser.add_argument(
        "--allow-missing",
        action="store_true",
        help="go on although the model has weights that SRC lacks",
    )


def run(args: argparse.Namespace) -> int:
    """Write DST and the yaml file beside it, says what was done, and returns the exit status.

    Raises:
        DataError: SRC can't be read or converted, or DST has another suffix.
    """
    if args.dst.suffix not in SUFFIXES:
        raise DataError(f"{args.dst}: the name must end in {' or '.join(SUFFIXES)}.")
    if args.dst.exists() and args.src.exists() and args.dst.samefile(args.src):
        raise DataError(f"{args.dst} is the source itself: give another name.")
    converted = convert(
        args.src,
        source=args.source,
        source_config=args.source_config,
        allow_unknown=args.allow_unknown,
        allow_missing=args.allow_missing,
    )
    config = write(converted, args.dst)
    report(converted)
    print(f"weights: {args.dst}\nconfig:  {config}")
    return 0


def report(converted: Converted) -> None:
    """Log, by name, what was not taken over."""
    logger.info(f"{converted.source.title}: {len(converted.weights)} weights")
    for name, reason in converted.dropped.items():
        logger.info(f"not needed: {name} ({reason})")
    for name in converted.ignored:
        logger.warning(f"not known, left out: {name}")
    for name in converted.missing:
        logger.warning(f"missing, left as it is initialised: {name}")
