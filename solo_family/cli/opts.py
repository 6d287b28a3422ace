"""Define the flag of every verb that takes a config."""

import argparse

CONFIG_HELP = "the model's config: a file, zoo:NAME of the model zoo, or hf:OWNER/REPO of the Hub"


def add_opts_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--opts KEY VALUE ...`, which takes all words that follow it."""
    parser.add_argument(
        "--opts",
        nargs=argparse.REMAINDER,
        default=[],
        metavar="KEY VALUE",
        help="config keys to change; must be the last flag",
    )
