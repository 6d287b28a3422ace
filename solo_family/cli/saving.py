"""The flags of `demo` that say what is saved, and in which formats."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from detectron2.data import Metadata

from ..errors import ConfigError
from ..saving.coco import CocoResults
from ..saving.filters import Filters, find_labels
from ..saving.journal import JOURNAL, Journal
from ..saving.picture import Classes
from ..saving.saver import Options
from ..saving.units import parse_pixel_size
from ..saving.writer import PICTURES, SAVERS, ResultWriter, common_folder, make_savers
from .inputs import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from .writers import make_folder

# The formats that read a flag, where not all do.
_READERS = {
    "--polygon-tolerance": ("coco", "labelme", "yolo", "geojson"),
    "--pixel-size": ("geojson", "csv"),
    "--side-by-side": (PICTURES,),
}


def add_saving_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `--save`, `--json`, and the flags that belong to them or filter predictions."""
    parser.add_argument(
        "--save",
        nargs="+",
        choices=[PICTURES, *SAVERS],
        metavar="FORMAT",
        help=f"what to write to the output folder: {', '.join([PICTURES, *SAVERS])} "
        f"(default: {PICTURES})",
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="also write COCO results to this file"
    )
    parser.add_argument(
        "--polygon-tolerance",
        type=float,
        metavar="PIXELS",
        help="the most that polygons deviate from the masks (default: what leaves an IoU of 0.98)",
    )
    parser.add_argument(
        "--pixel-size",
        metavar="LENGTH",
        help="length of a pixel, for instance 0.25um: areas in geojson and csv have this unit too",
    )
    add_filter_arguments(parser)


def add_filter_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags that filter predictions."""
    parser.add_argument(
        "--classes", nargs="+", metavar="NAME", help="keep only these classes (default: all)"
    )
    parser.add_argument(
        "--min-size", type=int, default=0, metavar="PIXELS", help="drop smaller objects"
    )
    parser.add_argument(
        "--no-overlap",
        action="store_true",
        help="let a pixel belong only to the object with the highest score",
    )


def saved_formats(args: argparse.Namespace) -> list[str]:
    """Return the formats to save, and check the other flags.

    Raises:
        ConfigError: a flag has a value that can't work.
    """
    if args.polygon_tolerance is not None and not 0 <= args.polygon_tolerance < float("inf"):
        raise ConfigError(
            f"--polygon-tolerance is {args.polygon_tolerance}; give a number of pixels, 0 or more."
        )
    check_filters(args)
    if args.pixel_size is not None:
        parse_pixel_size(args.pixel_size)
    formats = args.save or [PICTURES]
    suffix = "" if args.output is None or args.output.is_dir() else args.output.suffix.lower()
    if formats != [PICTURES] and suffix in IMAGE_SUFFIXES | VIDEO_SUFFIXES:
        raise ConfigError(
            f"--output is {args.output}; with --save {' '.join(formats)}, name a folder."
        )
    return formats


def check_read(args: argparse.Namespace, formats: Sequence[str]) -> None:
    """Check that a format that is saved reads each of the flags.

    Raises:
        ConfigError: none does.
    """
    for flag, readers in _READERS.items():
        given = getattr(args, flag.removeprefix("--").replace("-", "_"))
        in_window = args.show and PICTURES in readers
        if given not in (None, False) and not in_window and not set(formats) & set(readers):
            raise ConfigError(
                f"{flag} is for --save {', '.join(readers)}, but this saves {', '.join(formats)}. "
                f"Leave {flag} out, or save one of them."
            )


def check_filters(args: argparse.Namespace) -> None:
    """Check the flags that filter predictions, but for names of classes.

    Raises:
        ConfigError: a flag has a value that can't work.
    """
    if args.min_size < 0:
        raise ConfigError(f"--min-size is {args.min_size}; give a number of pixels, 0 or more.")


def make_filters(args: argparse.Namespace, metadata: Metadata) -> Filters:
    """Return the filter of predictions that the flags describe.

    Raises:
        ConfigError: the model has no such class.
    """
    names = Classes(metadata).names
    labels = None if args.classes is None else tuple(find_labels(args.classes, names))
    return Filters(labels, args.min_size, args.no_overlap)


def make_options(args: argparse.Namespace) -> Options:
    """Return how results are saved, of flags that `saved_formats` has checked."""
    size = None if args.pixel_size is None else parse_pixel_size(args.pixel_size)
    return Options(args.polygon_tolerance, size, args.track)


def make_writer(
    args: argparse.Namespace, metadata: Metadata, folder: Path, inputs: Sequence[Path], key: str
) -> ResultWriter:
    """Return what saves the results in all formats but pictures.

    Args:
        args: the flags.
        metadata: of the model's classes.
        folder: for the files; it is created if they are any.
        inputs: all input files.
        key: what predictions depend on; see `Journal`.

    Raises:
        DataError: the folder can't be written to.
    """
    options, classes = make_options(args), Classes(metadata)
    formats = [name for name in saved_formats(args) if name != PICTURES]
    if formats:
        make_folder(folder)
    savers = make_savers(formats, folder, classes, options)
    if args.json is not None:
        savers.append(CocoResults(args.json, classes, options))
    if not savers:
        return ResultWriter(())
    # In the folder of all files, or beside the only one.
    file = folder / JOURNAL if formats else args.json.with_name(f".{args.json.name}.partial")
    journal = Journal(file, key, resumes=args.skip_existing)
    return ResultWriter(savers, common_folder(inputs), journal)
