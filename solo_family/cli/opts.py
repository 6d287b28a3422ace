"""Define the flags of verbs that take a model."""

import argparse
from pathlib import Path

CONFIG_HELP = (
    "the model's config: a file, zoo:NAME of the model zoo, or hf:OWNER/REPO of the Hub; or the "
    "folder of a training run, with its weights"
)


def add_model_arguments(parser: argparse.ArgumentParser, engine: str) -> None:
    """Add the flags that name a model: a config, or an exported one and what runs it.

    Args:
        parser: of the verb.
        engine: the flag for what runs it.
    """
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument("--config-file", metavar="FILE", help=CONFIG_HELP)
    model.add_argument(
        "--exported", type=Path, metavar="DIR", help="folder of a model that `export` wrote"
    )
    parser.add_argument(
        engine,
        metavar="NAME",
        help="what runs an exported model: onnxruntime (the default) or openvino",
    )


def add_opts_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--opts KEY VALUE ...`, which takes all words that follow it."""
    parser.add_argument(
        "--opts",
        nargs=argparse.REMAINDER,
        default=[],
        metavar="KEY VALUE",
        help="config keys to change; must be the last flag",
    )
