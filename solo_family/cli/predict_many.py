"""Predict on many pictures with several processes or machines, into shards of one table."""

import argparse
from importlib.util import find_spec

from ..errors import SoloFamilyError
from .input_flags import add_finding_arguments
from .opts import add_model_arguments, add_opts_argument
from .saving import add_filter_arguments
from .tiled_pictures import add_tile_argument

# Formats that need no pixels, and are written from the shards.
FORMATS = ("coco", "coco-rle", "coco-results")
SHARD_SIZE = 1000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's flags."""
    add_model_arguments(parser, "--exported-engine")
    parser.add_argument(
        "--input",
        nargs="+",
        required=True,
        metavar="PATH",
        help="pictures, folders, quoted globs, @FILE (text with one of these per line), addresses "
        "in cloud storage (s3://bucket/folder, gs://, abfs://, hdfs://; globs too) or of http(s)",
    )
    add_finding_arguments(parser)
    parser.add_argument(
        "--output",
        required=True,
        metavar="PATH",
        help="a folder, or its address in cloud storage; a run that it has begun goes on",
    )
    parser.add_argument(
        "--save",
        nargs="+",
        choices=FORMATS,
        default=[],
        metavar="FORMAT",
        help=f"also write, from all shards at the end: {', '.join(FORMATS)}",
    )
    add_filter_arguments(parser)
    parser.add_argument(
        "--confidence-threshold",
        type=float,
        metavar="SCORE",
        help="the lowest score (default: the config's, which a training's report fills in, or 0.5)",
    )
    add_tile_argument(parser)
    _add_engine_arguments(parser)
    add_opts_argument(parser)


def _add_engine_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--engine",
        choices=("ray", "local"),
        default="ray",
        help="ray: a process per GPU or CPU of a Ray cluster, or of this machine (the default); "
        "local: this process alone",
    )
    parser.add_argument(
        "--address",
        metavar="HOST:PORT",
        help="the Ray cluster (default: RAY_ADDRESS, the one that runs on this machine, or a new "
        "one of this machine)",
    )
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="processes with a model (default: one per GPU of the cluster; without GPUs, per CPU)",
    )
    parser.add_argument(
        "--batch",
        type=int,
        metavar="N",
        help="predict N pictures of the same padded size at once (default: 4 on a GPU, and with "
        "--engine local two per core, 8 at most; otherwise 1)",
    )
    parser.add_argument(
        "--shard-size",
        type=int,
        default=SHARD_SIZE,
        metavar="N",
        help=f"pictures per Parquet file (default: {SHARD_SIZE})",
    )
    parser.add_argument(
        "--retry-errors",
        action="store_true",
        help="predict again the pictures that have an error in finished shards",
    )


def run(args: argparse.Namespace) -> int:
    """Predict.

    Returns:
        The exit status: 0; 1 if a picture has an error; 2 if there is nothing to process.

    Raises:
        SoloFamilyError: a flag or a config key can't work, or a package is not installed.
    """
    for package in ["pyarrow", *(["ray"] if args.engine == "ray" else [])]:
        if find_spec(package) is None:
            other = "" if package == "pyarrow" else ", or add --engine local"
            raise SoloFamilyError(
                f"--engine {args.engine} needs {package}: pip install 'solo-family[ray]'{other}"
            )
    from .many.run import run as run_many

    return run_many(args)
