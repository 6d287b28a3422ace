"""Draw what a model makes of a picture on the way to its masks."""

import argparse

from ..errors import SoloFamilyError
from . import score_maps


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--score-maps", action="store_true", help="InstanceFCN's score maps and a window's mask"
    )
    score_maps.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Draws what was asked for, and returns the exit status.

    Raises:
        SoloFamilyError: nothing was asked for, or a flag, a file or a config key can't work.
    """
    if not args.score_maps:
        raise SoloFamilyError("Say what to draw: --score-maps.")
    return score_maps.run(args)
