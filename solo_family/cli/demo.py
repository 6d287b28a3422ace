"""Draw a model's predictions on pictures, videos and the webcam, without a display by default."""

import argparse
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from ..config import setup_cfg
from ..data.loading.images import Reading
from ..data.loading.windows import ArrayWindows
from ..errors import DataError, SoloFamilyError
from ..predictor.predictions import Predictions, keep_confident
from ..predictor.sources import Source as Model
from ..predictor.sources import from_config, from_exported
from ..saving.writer import PICTURES
from ..tiling.predict import predict_by_tiles
from ..tiling.tiles import Tiling, with_tile
from .draw_sources import Demo, Job
from .inputs import WEBCAM, Source, find_sources
from .opts import add_opts_argument
from .saving import add_saving_arguments, make_filters, make_writer, saved_formats
from .tiled_pictures import TiledPictures, add_tile_argument, model_key
from .writers import make_folder, plan_outputs

logger = logging.getLogger(__name__)

DEFAULT_OUTPUT = Path("output/demo")
INTERRUPTED = 130  # Exit status that shells report after Ctrl-C.


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add detectron2's demo flags, and those of this package."""
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument("--config-file", metavar="FILE", help="the model's config")
    model.add_argument(
        "--exported", type=Path, metavar="DIR", help="folder of a model that `export` wrote"
    )
    parser.add_argument(
        "--engine",
        metavar="NAME",
        help="what runs an exported model: onnxruntime (the default) or openvino",
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--input", nargs="+", metavar="PATH", help="pictures, folders, quoted globs, or videos"
    )
    source.add_argument("--video-input", metavar="FILE", help="a video, whatever its suffix")
    source.add_argument("--webcam", action="store_true", help="read the first camera, until Ctrl-C")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="PATH",
        help=f"a folder, or the output file of a single input (default: {DEFAULT_OUTPUT})",
    )
    add_saving_arguments(parser)
    parser.add_argument(
        "--confidence-threshold", type=float, default=0.5, help="the lowest score (default: 0.5)"
    )
    parser.add_argument(
        "--bands",
        nargs=3,
        type=int,
        metavar=("R", "G", "B"),
        help="of models of other channels, those that pictures show, counted from 1",
    )
    parser.add_argument(
        "--skip-existing",
        action="store_true",
        help="leave outputs that exist as they are, and go on with a large picture where an "
        "interrupted run was",
    )
    add_tile_argument(parser)
    parser.add_argument(
        "--show", action="store_true", help="show each picture in a window; Escape stops"
    )
    add_opts_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Run the demo.

    Returns:
        The exit status: 0; 1 if an input was skipped, or a part of one not read; 2 if there is
            nothing to process.

    Raises:
        SoloFamilyError: a flag or a config key can't work.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        jobs, unmatched = _plan_jobs(args)
    except DataError as error:
        logger.error("%s", error)
        return 2
    for pattern in unmatched:
        logger.error("skipped %s: no such file", pattern)
    demo = _make_demo(args, [source.path for source, _ in jobs if source.path is not None])
    if args.skip_existing and demo.writer.saves:
        logger.warning(
            "--json and --save need the results of all pictures: those that exist are redone"
        )
    try:
        with logging_redirect_tqdm(), demo.writer:
            failed = demo.run(tqdm(jobs, unit="input", disable=len(jobs) == 1))
    except KeyboardInterrupt:
        logger.info(
            "stopped; all files written so far are complete, and --skip-existing goes on from there"
        )
        return INTERRUPTED
    skipped = failed + len(unmatched)
    folder = None if args.webcam and args.output is None else args.output or DEFAULT_OUTPUT
    _print_summary(jobs, failed + demo.existing, skipped, folder)
    if demo.incomplete:
        logger.error("%d with parts that could not be read; they are named above", demo.incomplete)
    return 1 if skipped or demo.incomplete else 0


def _plan_jobs(args: argparse.Namespace) -> tuple[list[Job], list[str]]:
    if args.webcam and args.output is None and not args.show:
        raise SoloFamilyError("--webcam needs --output FILE.mp4, to record, or --show, to watch")
    if args.json is not None:
        make_folder(args.json.parent)
    formats = saved_formats(args)
    if args.webcam and args.output is None:
        return [(WEBCAM, None)], []
    sources, unmatched = _find_sources(args)
    if PICTURES not in formats:
        return [(source, None) for source in sources], unmatched
    return list(zip(sources, plan_outputs(sources, args.output or DEFAULT_OUTPUT))), unmatched


def _find_sources(args: argparse.Namespace) -> tuple[list[Source], list[str]]:
    if args.webcam:
        return [WEBCAM], []
    if args.video_input is not None:
        sources, unmatched = find_sources([args.video_input])
        return [replace(source, is_video=True) for source in sources], unmatched
    return find_sources(args.input)


def _make_demo(args: argparse.Namespace, inputs: list[Path]) -> Demo:
    source, key = _open_model(args)
    if args.bands is not None:
        shown = replace(source.reading, bands=_bands(args.bands, source.reading))
        source = replace(source, reading=shown)
    tiling = with_tile(source.tiling, args.tile)
    tiled = None
    if tiling is not None:
        tiled = TiledPictures(
            predict=source.predict,
            tiling=tiling,
            reading=source.reading,
            model_key=key,
            resumes=args.skip_existing,
        )
    filters = make_filters(args, source.metadata)
    return Demo(
        predict=lambda image: _predict_frame(source, tiling, image),
        metadata=source.metadata,
        keep=lambda found: filters(keep_confident(found, args.confidence_threshold)),
        writer=make_writer(args, source.metadata, args.output or DEFAULT_OUTPUT, inputs),
        shows=args.show,
        reading=source.reading,
        tiled=tiled,
        skips_existing=args.skip_existing,
    )


def _predict_frame(model: Model, tiling: Tiling | None, image: np.ndarray) -> Predictions:
    if tiling is None:
        return model.predict([image])[0]
    return predict_by_tiles(model.predict, ArrayWindows(image), tiling).predictions


def _open_model(args: argparse.Namespace) -> tuple[Model, str]:
    """Return the model, and a text that changes with what it answers."""
    if args.exported is not None:
        if args.opts:
            raise SoloFamilyError("--opts changes a config; an exported model has none")
        return from_exported(args.exported, args.engine), model_key(None, args.exported)
    if args.engine is not None:
        raise SoloFamilyError(
            "--engine is for exported models: add --exported DIR, or leave it out"
        )
    cfg = setup_cfg(args.config_file, args.opts)
    return from_config(cfg), model_key(cfg, None)


def _bands(given: list[int], reading: Reading) -> tuple[int, ...]:
    """Return the channels of `--bands`, counted in the order of the model's working format."""
    count = reading.format.count
    if not all(1 <= band <= count for band in given):
        raise SoloFamilyError(
            f"--bands is {' '.join(map(str, given))}; the model has {count} channels. Give three "
            f"from 1 to {count}."
        )
    return tuple(given)


def _print_summary(jobs: list[Job], failed: int, skipped: int, folder: Path | None) -> None:
    output = jobs[0][1]
    if folder is not None:
        where = output if output is not None and len(jobs) == 1 else folder
        print(f"{len(jobs) - failed} written to {where}, {skipped} skipped")
