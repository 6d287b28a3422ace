"""Draw how a model computes the masks of an image, or its predictions beside the ground truth."""

import argparse
import logging
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from detectron2.config import CfgNode

from ..config.output import confidence_threshold
from ..data.loading.images import Reading
from ..errors import ConfigError, DataError, SoloFamilyError
from ..modeling.drawing import DrawingOptions, Picture
from ..predictor.drawing import write_picture
from ..predictor.load import class_metadata, load_predictor
from ..predictor.sources import read_cfg
from ..progress import Progress
from ..registry import METHODS, Visualization, resolve
from .batches import read_picture
from .inputs import find_sources
from .opts import CONFIG_HELP, add_opts_argument
from .source import Source
from .threshold import lowest_score
from .truth_pictures import dataset_records, draw_beside_truth
from .writers import make_folder, plan_outputs

DEFAULT_OUTPUT = Path("output/visualize-results")
TRUTH_FLAG = "--ground-truth"

logger = logging.getLogger(__name__)


# What can be drawn, by flag.
_KINDS: dict[str, Visualization] = {
    flag: kind for method in METHODS.values() for flag, kind in method.visualizations.items()
}
# The methods that each flag is for.
_METHODS = {
    flag: [method.meta_arch for method in METHODS.values() if flag in method.visualizations]
    for flag in _KINDS
}


def _readers(name: str) -> str:
    """Return the flags of what reads an option of drawing."""
    return " or ".join(flag for flag, kind in _KINDS.items() if name in kind.reads)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `visualize-results`."""
    what = parser.add_mutually_exclusive_group(required=True)
    for flag, kind in _KINDS.items():
        what.add_argument(
            flag,
            dest="flag",
            action="store_const",
            const=flag,
            help=f"{', '.join(_METHODS[flag])}: {kind.help}",
        )
    what.add_argument(
        TRUTH_FLAG,
        dest="flag",
        action="store_const",
        const=TRUTH_FLAG,
        help="all methods: the ground truth of DATASETS.TEST, and the predictions on its right",
    )
    parser.add_argument(
        "--num-images",
        type=int,
        metavar="N",
        help=f"with {TRUTH_FLAG}: only the first N images (default: all)",
    )
    parser.add_argument("--config-file", required=True, metavar="FILE", help=CONFIG_HELP)
    parser.add_argument(
        "--input", nargs="+", metavar="PATH", default=[], help="pictures, folders or quoted globs"
    )
    parser.add_argument(
        "--maps",
        nargs="+",
        type=int,
        help=f"with {_readers('maps')}: which are drawn (default: 0 to 7)",
    )
    parser.add_argument(
        "--window",
        type=float,
        nargs=2,
        metavar=("X", "Y"),
        help=f"with {_readers('window')}: centre of the window, in pixels of the picture (default: "
        "that of the best proposal)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=DEFAULT_OUTPUT,
        metavar="PATH",
        help=f"a folder, or the file for a single picture (default: {DEFAULT_OUTPUT})",
    )
    parser.add_argument(
        "--confidence-threshold",
        type=float,
        help="the lowest score (default: the config's, which a training's report fills in, or 0.5)",
    )
    add_opts_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Draw what the flags ask for.

    Returns:
        The exit status: 0, or 1 if an input was skipped.

    Raises:
        SoloFamilyError: a flag, a file, a config key, a dataset or every input can't work.
    """
    _check_read(args)
    cfg = read_cfg(args.config_file, args.opts)
    args.confidence_threshold = lowest_score(args.confidence_threshold, confidence_threshold(cfg))
    if args.flag == TRUTH_FLAG:
        if args.input:
            raise SoloFamilyError(f"{TRUTH_FLAG} draws the images of DATASETS.TEST: remove --input")
        drawn, skipped = draw_beside_truth(
            cfg, args.output, args.confidence_threshold, args.num_images
        )
        print(f"{drawn} pictures to {args.output}, {skipped} skipped")
        return 1 if skipped else 0
    kind = _KINDS[args.flag]
    _check_method(cfg, args.flag)
    sources, unmatched = _find_sources(args, cfg)
    if kind.of_all:
        make_folder(args.output)
        outputs = {}
    else:
        outputs = dict(zip(map(str, sources), plan_outputs(sources, args.output)))
    pictures = _Pictures(sources, Reading.from_config(cfg), skips=not kind.of_one)
    options = DrawingOptions(
        confidence_threshold=args.confidence_threshold,
        maps=tuple(range(8) if args.maps is None else args.maps),
        window=tuple(args.window) if args.window else None,
        metadata=partial(class_metadata, cfg),
    )
    for drawing in resolve(kind.draw)(load_predictor(cfg), pictures, options):
        output = outputs.get(drawing.name) or args.output / f"{drawing.name}.png"
        write_picture(output, drawing.image)
        if drawing.remark:
            print(f"{output}: {drawing.remark}")
    for pattern in unmatched:
        logger.error("skipped %s: no such file", pattern)
    skipped = pictures.skipped + len(unmatched)
    if not kind.of_one:
        drawn = len(sources) - pictures.skipped
        print(f"{drawn} pictures to {args.output}, {skipped} skipped")
    return 1 if skipped else 0


def _check_read(args: argparse.Namespace) -> None:
    """Check that what is drawn depends on each of the flags."""
    read = ("num_images",) if args.flag == TRUTH_FLAG else _KINDS[args.flag].reads
    for name in ("num_images", "maps", "window"):
        if getattr(args, name) is not None and name not in read:
            flag = f"--{name.replace('_', '-')}"
            reader = TRUTH_FLAG if name == "num_images" else _readers(name)
            raise SoloFamilyError(f"{flag} is for {reader}, not for {args.flag}: leave it out.")


def _check_method(cfg: CfgNode, flag: str) -> None:
    methods, given = ", ".join(_METHODS[flag]), cfg.MODEL.META_ARCHITECTURE
    if given not in _METHODS[flag]:
        raise ConfigError(
            f"{flag} is for {methods}, but the model is {given}: MODEL.META_ARCHITECTURE is "
            f"{given!r}. Give the config of a model of {methods}."
        )


def _find_sources(args: argparse.Namespace, cfg: CfgNode) -> tuple[list[Source], list[str]]:
    """Return the pictures, and the patterns of `--input` that match none."""
    kind = _KINDS[args.flag]
    if kind.of_one and len(args.input) != 1:
        raise SoloFamilyError(f"{args.flag} draws one picture; --input has {len(args.input)}.")
    if args.input:
        sources, unmatched = find_sources(args.input)
        if kind.of_one and len(sources) != 1:
            raise SoloFamilyError(f"{args.flag} draws one picture; --input has {len(sources)}.")
        return sources, unmatched
    if not kind.of_all:
        raise SoloFamilyError(f"{args.flag} needs pictures: --input PATH ...")
    return _dataset_sources(cfg.DATASETS.TEST), []


def _dataset_sources(names: Sequence[str]) -> list[Source]:
    records = dataset_records(names)
    return [Source(Path(record["file_name"]), is_video=False) for _, record in records]


class _Pictures:
    """Iterable that reads pictures one by one.

    Args:
        sources: the pictures.
        reading: how they are read.
        skips: whether to skip and count images that can't be read; otherwise they are an error.
    """

    def __init__(self, sources: list[Source], reading: Reading, *, skips: bool) -> None:
        self._sources = sources
        self._reading = reading
        self._skips = skips
        self.skipped = 0

    def __iter__(self) -> Iterator[Picture]:
        for source in Progress(self._sources, unit="picture", disable=not self._skips):
            try:
                image = read_picture(source, self._reading)
                yield Picture(str(source), self._reading.picture(image), image)
            except DataError as error:
                if not self._skips:
                    raise
                logger.error("skipped %s", error)
                self.skipped += 1
