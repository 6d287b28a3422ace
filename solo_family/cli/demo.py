"""Draw a model's predictions on pictures, videos and cameras, without a display by default."""

import argparse
import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from tqdm.contrib.logging import logging_redirect_tqdm

from ..class_maps import with_late_class_maps, without_class_maps
from ..data.loading.images import Reading
from ..errors import DataError, SoloFamilyError
from ..predictor.predictions import Predictions, keep_confident
from ..predictor.sources import Source as Model
from ..predictor.sources import from_config, from_exported, is_exported, read_cfg
from ..predictor.tracking import Tracker, tracking_packages
from ..saving.writer import PICTURES, SAVERS
from ..tiling.tiles import with_tile
from .draw_items import Drawing
from .draw_sources import Demo, Job
from .input_flags import add_input_arguments, find_given
from .inputs import split_pages
from .opts import add_model_arguments, add_opts_argument
from .saving import add_saving_arguments, check_read, make_filters, make_writer, saved_formats
from .source import Source
from .threshold import lowest_score
from .tiled_pictures import (
    TiledPictures,
    add_tile_argument,
    model_key,
    predict_arrays,
    text_key,
    written,
)
from .web.flags import add_web_arguments, check_web_flags
from .web.run import run_page
from .writers import make_folder, plan_outputs

logger = logging.getLogger(__name__)

DEFAULT_OUTPUT = Path("output/demo")
INTERRUPTED = 130  # Exit status that shells report after Ctrl-C.


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add detectron2's demo flags, and those of this package."""
    add_model_arguments(parser, "--engine")
    add_input_arguments(parser)
    parser.add_argument(
        "--output",
        type=Path,
        metavar="PATH",
        help=f"a folder, or the output file of a single input (default: {DEFAULT_OUTPUT})",
    )
    add_saving_arguments(parser)
    parser.add_argument(
        "--confidence-threshold",
        type=float,
        help="the lowest score (default: the config's, which a training's report fills in, or 0.5)",
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
        help="leave outputs that exist as they are, unless the picture or the model was written "
        "after them, and go on where an interrupted run was, also within a large picture and with "
        "the files of --save and --json",
    )
    add_tile_argument(parser)
    parser.add_argument(
        "--batch",
        type=int,
        metavar="N",
        help="predict N pictures or frames at once (default: 4 on a GPU; on a CPU two per core, "
        "8 at most; 1 for exported models)",
    )
    parser.add_argument(
        "--track",
        action="store_true",
        help="number the objects of videos, the same in all frames (extra [track])",
    )
    parser.add_argument(
        "--side-by-side",
        action="store_true",
        help="draw each picture beside itself without predictions",
    )
    parser.add_argument(
        "--show", action="store_true", help="show each picture in a window; Escape stops"
    )
    add_web_arguments(parser)
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
    if args.batch is not None and args.batch < 1:
        raise SoloFamilyError(f"--batch is {args.batch}; give a number of pictures, 1 or more.")
    if check_web_flags(args):
        return run_page(args, lambda: _with_bands(args, _open_model(args)[0]))
    try:
        sources, unmatched = _find_sources(args)
    except DataError as error:
        logger.error("%s", error)
        return 2
    model, key = _for_formats(*_open_model(args), saved_formats(args))
    args.confidence_threshold = lowest_score(args.confidence_threshold, model.threshold)
    try:
        sources = split_pages(sources, model.reading)
        jobs = _plan_jobs(args, sources)
    except DataError as error:
        logger.error("%s", error)
        return 2
    for pattern in unmatched:
        logger.error("skipped %s: no such file", pattern)
    inputs = [source.path for source in sources if source.path is not None]
    demo = _make_demo(args, model, key, inputs)
    try:
        with logging_redirect_tqdm(), demo.drawing.writer:
            failed = demo.run(jobs)
    except KeyboardInterrupt:
        logger.info(
            "stopped; all files written so far are complete, and --skip-existing goes on from there"
        )
        return INTERRUPTED
    skipped = failed + len(unmatched)
    is_shown = args.webcam is not None and args.output is None
    _print_summary(
        jobs,
        failed + demo.existing,
        skipped,
        None if is_shown else args.output or DEFAULT_OUTPUT,
    )
    if demo.incomplete:
        logger.error("%d with parts that could not be read; they are named above", demo.incomplete)
    return 1 if skipped or demo.incomplete else 0


def _find_sources(args: argparse.Namespace) -> tuple[list[Source], list[str]]:
    if args.webcam is not None and args.output is None and not args.show:
        raise SoloFamilyError("--webcam needs --output FILE.mp4, to record, or --show, to watch")
    check_read(args, saved_formats(args))  # before anything is read
    sources, unmatched = find_given(args, args.output or DEFAULT_OUTPUT)
    if args.track and sources and not any(source.is_video for source in sources):
        raise SoloFamilyError(
            "--track numbers the objects of videos, but --input has only pictures: leave it out."
        )
    if args.track:
        tracking_packages()  # before pictures are predicted that stand in front of a video
    return sources, unmatched


def _plan_jobs(args: argparse.Namespace, sources: list[Source]) -> list[Job]:
    if args.json is not None:
        make_folder(args.json.parent)
    is_watched = args.webcam is not None and args.output is None
    if is_watched or PICTURES not in saved_formats(args):
        return [(source, None) for source in sources]
    return list(zip(sources, plan_outputs(sources, args.output or DEFAULT_OUTPUT)))


def _make_demo(args: argparse.Namespace, model: Model, key: str, inputs: list[Path]) -> Demo:
    model = _with_bands(args, model)
    tiling = with_tile(model.tiling, args.tile)
    tiled = None
    if tiling is not None:
        tiled = TiledPictures(
            predict=model.predict,
            tiling=tiling,
            reading=model.reading,
            model_key=key,
            resumes=args.skip_existing,
        )
    filters = make_filters(args, model.metadata)
    drawing = Drawing(
        metadata=model.metadata,
        keep=lambda found: filters(keep_confident(found, args.confidence_threshold)),
        writer=make_writer(
            args, model.metadata, args.output or DEFAULT_OUTPUT, inputs, _results_key(args, key)
        ),
        reading=model.reading,
        in_window=args.show,
        side_by_side=args.side_by_side,
    )
    return Demo(
        predict=lambda images: predict_arrays(model.predict, tiling, images),
        drawing=drawing,
        batch=args.batch or model.batch,
        tiled=tiled,
        tracker=partial(Tracker, threshold=args.confidence_threshold) if args.track else None,
        skips_existing=args.skip_existing,
        written=model.written,
    )


def _results_key(args: argparse.Namespace, model_key: str) -> str:
    """Return a text that changes with what is saved of a picture."""
    filters = [args.confidence_threshold, args.classes, args.min_size, args.no_overlap]
    return text_key(model_key, filters, args.tile, args.track)


def _open_model(args: argparse.Namespace) -> tuple[Model, str]:
    """Return the model, and a text that changes with what it answers."""
    exported: Path | None = args.exported
    if exported is None and is_exported(Path(args.config_file)):
        exported = Path(args.config_file)
    if exported is not None:
        if args.opts:
            raise SoloFamilyError("--opts changes a config; an exported model has none")
        model = replace(from_exported(exported, args.engine), written=written(None, exported))
        return model, model_key(None, exported)
    if args.engine is not None:
        raise SoloFamilyError(
            "--engine is for exported models: add --exported DIR, or leave it out"
        )
    cfg = read_cfg(args.config_file, args.opts)
    return replace(from_config(cfg), written=written(cfg, None)), model_key(cfg, None)


def _for_formats(model: Model, key: str, formats: Sequence[str]) -> tuple[Model, str]:
    """Return the model without results that no format has, and a text as `_open_model` does."""
    saves = any(name in SAVERS and SAVERS[name].needs[0] == "labels" for name in formats)
    maps = with_late_class_maps if saves else without_class_maps

    def predict(images: list[np.ndarray]) -> list[Predictions]:
        with maps():
            return model.predict(images)

    key = key if saves else text_key(key, "without class maps")
    return replace(model, predict=predict), key


def _with_bands(args: argparse.Namespace, model: Model) -> Model:
    """Return the model with the channels that are drawn."""
    if args.bands is None:
        return model
    return replace(model, reading=replace(model.reading, bands=_bands(args.bands, model.reading)))


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
