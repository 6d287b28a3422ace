"""Make a folder of a trained model that others can load, with a model card."""

import argparse
import re
import shlex
from dataclasses import replace
from pathlib import Path

from detectron2.data import DatasetCatalog

from ..data.formats.register import register_in_place
from ..errors import ConfigError, DataError
from ..evaluation.build import predicted_tasks
from ..fetch.names import CONFIG
from ..files import making
from ..predictor import Predictor
from ..publishing.card import PICTURE, Card, write_card
from ..publishing.scores import shown_dataset
from ..publishing.write import Run, make_card, open_run, write_model

_README = "README.md"
_REPOSITORY = re.compile(r"[A-Za-z0-9_][\w.-]*/[A-Za-z0-9_][\w.-]*")
# A picture is drawn with instances of at least this score, as the demo draws.
_THRESHOLD = 0.5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `publish`."""
    parser.add_argument("run", type=Path, metavar="RUN", help="OUTPUT_DIR of a training run")
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="folder to make")
    parser.add_argument(
        "--weights",
        type=Path,
        metavar="FILE",
        help="checkpoint to publish (default: model_final.pth, or else the last intact one)",
    )
    parser.add_argument(
        "--licence",
        default="",
        metavar="NAME",
        help="licence that you give the weights, for instance apache-2.0 or cc-by-nc-4.0",
    )
    parser.add_argument("--name", metavar="NAME", help="title of the card (default: that of DIR)")
    parser.add_argument(
        "--repository",
        default="",
        metavar="OWNER/REPO",
        help="where it will be on the HuggingFace Hub, for the commands in the card",
    )
    pictures = parser.add_mutually_exclusive_group()
    pictures.add_argument(
        "--picture",
        type=Path,
        metavar="FILE",
        help="picture to draw predictions on (default: a validation image, if the data are here)",
    )
    pictures.add_argument("--no-picture", action="store_true", help="draw none")


def run(args: argparse.Namespace) -> int:
    """Write the folder, print what it has and the next command, and return the exit status.

    Raises:
        SoloFamilyError: the run or a flag can't be used, or the folder is not empty.
    """
    output = args.output.resolve()
    _check(args, output)
    opened = open_run(args.run, args.weights)
    name = args.name or output.name
    card = make_card(opened, name, args.licence.strip(), args.repository)
    output.parent.mkdir(parents=True, exist_ok=True)
    with making(output) as build:
        write_model(opened, build, args.licence.strip())
        # What was written is opened as its users will, so that a folder that can't be is not made.
        predictor = Predictor(build, device="cpu", confidence_threshold=_THRESHOLD)
        picture = None if args.no_picture else args.picture or _validation_image(opened)
        if picture is not None:
            predictor(picture).plot(build / PICTURE)
            card = replace(card, picture=_caption(opened, args.picture))
        (build / _README).write_text(write_card(card), encoding="utf-8")
    _report(args.output, card, picture if args.picture is None else None)
    return 0


def _check(args: argparse.Namespace, output: Path) -> None:
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise DataError(
            f"--output {args.output} exists and is not empty: name another folder, or remove it."
        )
    if args.picture is not None and not args.picture.is_file():
        raise DataError(f"--picture {args.picture}: there is no such file. Correct the path.")
    if args.repository and not _REPOSITORY.fullmatch(args.repository):
        raise ConfigError(
            f"--repository is {args.repository!r}; write OWNER/REPO, for instance me/{output.name}."
        )


def _validation_image(opened: Run) -> Path | None:
    """Return the first image with objects of the validation data; None if they are not here."""
    names = tuple(opened.cfg.DATASETS.TEST)
    try:
        register_in_place(names)
        items = [item for name in names for item in DatasetCatalog.get(name)]
    # A dataset that is missing can raise any error of detectron2's own readers.
    except Exception:
        return None
    items.sort(key=lambda item: not item.get("annotations"))  # stable: the first with objects
    paths = (Path(item["file_name"]) for item in items)
    return next((path for path in paths if path.is_file()), None)


def _caption(opened: Run, given: Path | None) -> str:
    # Panoptic segments, and else classes of pixels, are drawn instead of instances with scores.
    has_scores = not {"panoptic", "semantic"} & {*predicted_tasks(opened.cfg)}
    what = f"Predictions with a score of at least {_THRESHOLD}" if has_scores else "Predictions"
    if given is not None:
        return what
    names = ", ".join(map(shown_dataset, opened.cfg.DATASETS.TEST))
    return f"{what} on an image of {names}"


def _report(folder: Path, card: Card, image: Path | None) -> None:
    print(f"{folder} has a config, weights and {_README}: read that before you share it.")
    if image is not None:
        print(f"{PICTURE} shows {image}; --picture FILE takes another, --no-picture none.")
    elif not card.picture:
        print(f"There is no {PICTURE}; --picture FILE draws one.")
    if card.warning:
        print(f"WARNING: {card.warning}")
    if not card.licence:
        print("No licence is named, so that nobody may use the weights: --licence NAME names one.")
    if card.origin is not None and not card.origin.licence:
        print(f"Training began with {card.origin.weights}, whose licence is not known here.")
    config = shlex.quote(str(folder / CONFIG))
    demo = f"python -m solo_family demo --config-file {config} --input IMAGE"
    print(f"\nTry it:    {demo}")
    print(f"Upload it: hf upload {card.repository or 'OWNER/REPO'} {shlex.quote(str(folder))}")
