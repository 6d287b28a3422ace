"""Convert a checkpoint of another code base: to our names, with a config."""

import argparse
import logging
from pathlib import Path

from ..checkpoint.convert import SUFFIXES, Converted, convert, write
from ..checkpoint.sources import SOURCES
from ..errors import DataError

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `convert`."""
    parser.add_argument("src", type=Path, help="checkpoint to convert: .pth, .pkl or .safetensors")
    parser.add_argument("dst", type=Path, help=f"file to write: {' or '.join(SUFFIXES)}")
    parser.add_argument(
        "--source",
        default="",
        help=f"code base of SRC, if its names don't reveal it: {', '.join(SOURCES)}",
    )
    parser.add_argument("--source-config", type=Path, help="yaml config that SRC was trained with")
    parser.add_argument(
        "--allow-unknown",
        action="store_true",
        help="continue without weights whose names are not known",
    )
    parser.add_argument(
        "--allow-missing",
        action="store_true",
        help="continue although SRC lacks weights of the model",
    )


def run(args: argparse.Namespace) -> int:
    """Write DST and the yaml file beside it, report what was done, and return the exit status.

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
    """Log the names of weights that were dropped, ignored or missing."""
    logger.info(f"{converted.source.title}: {len(converted.weights)} weights")
    for name, reason in converted.dropped.items():
        logger.info(f"not needed: {name} ({reason})")
    for name in converted.ignored:
        logger.warning(f"unknown, dropped: {name}")
    for name in converted.missing:
        logger.warning(f"missing, left at its initial value: {name}")
