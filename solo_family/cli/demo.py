"""Draw a model's predictions on pictures, videos and the webcam, without a display by default."""

import argparse
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.data import Metadata
from detectron2.utils.video_visualizer import VideoVisualizer
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from ..config import setup_cfg
from ..data.loading.images import Reading
from ..errors import DataError, OutOfMemoryError, SoloFamilyError
from ..faults import explained
from ..pictures.formats import frame_in_format
from ..predictor.drawing import draw_predictions, write_picture
from ..predictor.exported import exported_reading, load_exported
from ..predictor.load import class_metadata, load_predictor
from ..predictor.predictions import Predictions, coco_results, describe, keep_confident
from .inputs import WEBCAM, Source, Video, find_sources, read_picture
from .opts import add_opts_argument
from .window import show_picture
from .writers import make_folder, plan_outputs, video_writer, write_json

logger = logging.getLogger(__name__)

DEFAULT_OUTPUT = Path("output/demo")
INTERRUPTED = 130  # Exit status that shells report after Ctrl-C.

Job = tuple[Source, Path | None]
Predict = Callable[[np.ndarray], Predictions]


class Demo:
    """Predict on sources one by one, and write the predictions as pictures and COCO results.

    Args:
        predict: maps an (H, W, C) uint8 image of the reading's format to detectron2's output
            dict, with any of "instances", "sem_seg" and "panoptic_seg".
        metadata: the metadata of the dataset that names the categories.
        threshold: predictions with lower scores are neither drawn nor among the results.
        collects_results: whether to fill `results`.
        shows: whether to show each picture in a window as well.
        reading: how picture files are read.
    """

    def __init__(
        self,
        *,
        predict: Predict,
        metadata: Metadata,
        threshold: float,
        collects_results: bool = False,
        shows: bool = False,
        reading: Reading | None = None,
    ) -> None:
        self._predict = predict
        self._reading = reading or Reading()
        self._metadata = metadata
        self._threshold = threshold
        self._collects_results = collects_results
        self._shows = shows
        self._image_id = 0
        self.results: list[dict[str, Any]] = []

    def run(self, jobs: Iterable[Job]) -> int:
        """Process every job, and report in one line each those that can't be read or written.

        Args:
            jobs: each source with the file to write, or None to write none.

        Returns:
            The number of skipped inputs.
        """
        skipped = 0
        for source, output in jobs:
            try:
                (self._run_video if source.is_video else self._run_picture)(source, output)
            except DataError as error:
                logger.error("skipped %s", error)
                skipped += 1
            except OutOfMemoryError as error:
                logger.error("skipped %s: %s", source, error)
                skipped += 1
        return skipped

    def _run_picture(self, source: Source, output: Path | None) -> None:
        # Counted before reading, so that it is the picture's position in the input.
        self._image_id += 1
        image = read_picture(source, self._reading)
        start = time.perf_counter()
        predictions = keep_confident(self._predict(image), self._threshold)
        seconds = time.perf_counter() - start
        logger.info("%s: %s in %.2f s", source, describe(predictions), seconds)
        self._collect(predictions, file_name=str(source))
        picture = self._reading.picture(image)
        drawn = draw_predictions(VideoVisualizer(self._metadata), picture, predictions)
        if output is not None:
            write_picture(output, drawn)
        if self._shows:
            show_picture(drawn, milliseconds=0)

    def _run_video(self, source: Source, output: Path | None) -> None:
        start = time.perf_counter()
        frames = 0
        with ExitStack() as stack:
            video = stack.enter_context(Video(source))
            writer = None
            if output is not None:
                writer = stack.enter_context(video_writer(output, video.fps, video.size))
            if source == WEBCAM:
                # A webcam has no end of its own, so stopping it isn't an error.
                stack.enter_context(suppress(KeyboardInterrupt))
            for drawn in self._drawn_frames(source, video):
                frames += 1
                if writer is not None:
                    writer.write(drawn)
                if self._shows:
                    show_picture(drawn, milliseconds=1)
        logger.info("%s: %d frames in %.2f s", source, frames, time.perf_counter() - start)

    def _drawn_frames(self, source: Source, video: Video) -> Iterator[np.ndarray]:
        # One for the whole video, because it keeps an object's colour from frame to frame.
        visualizer = VideoVisualizer(self._metadata)
        frames = tqdm(video, source.name, video.expected_frames, leave=False, unit="frame")
        for index, frame in enumerate(frames):
            self._image_id += 1
            given = frame_in_format(frame, self._reading.format)
            predictions = keep_confident(self._predict(given), self._threshold)
            self._collect(predictions, file_name=str(source), frame=index)
            yield draw_predictions(visualizer, frame, predictions)

    def _collect(self, predictions: Predictions, **where: str | int) -> None:
        if self._collects_results:
            results = coco_results(predictions, self._image_id, self._metadata)
            self.results += [result | where for result in results]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add detectron2's demo flags, `--show` and `--json`."""
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument("--config-file", metavar="FILE", help="the model's config")
    model.add_argument(
        "--exported", type=Path, metavar="DIR", help="folder of a model that `export` wrote"
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
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="also write COCO results to this file"
    )
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
        "--show", action="store_true", help="show each picture in a window; Escape stops"
    )
    add_opts_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Run the demo.

    Returns:
        The exit status: 0, 1 if an input was skipped, 2 if there is nothing to process.

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
    predict, metadata, reading = _load_predictor(args)
    if args.bands is not None:
        reading = replace(reading, bands=_bands(args.bands, reading))
    demo = Demo(
        predict=predict,
        metadata=metadata,
        threshold=args.confidence_threshold,
        collects_results=args.json is not None,
        shows=args.show,
        reading=reading,
    )
    try:
        with logging_redirect_tqdm():
            failed = demo.run(tqdm(jobs, unit="input", disable=len(jobs) == 1))
    except KeyboardInterrupt:
        logger.info("stopped; all files written so far are complete")
        return INTERRUPTED
    if args.json is not None:
        write_json(args.json, demo.results)
    skipped = failed + len(unmatched)
    _print_summary(jobs, failed, skipped)
    return 1 if skipped else 0


def _plan_jobs(args: argparse.Namespace) -> tuple[list[Job], list[str]]:
    if args.webcam and args.output is None and not args.show:
        raise SoloFamilyError("--webcam needs --output FILE.mp4, to record, or --show, to watch")
    if args.json is not None:
        make_folder(args.json.parent)
    if args.webcam and args.output is None:
        return [(WEBCAM, None)], []
    sources, unmatched = _find_sources(args)
    return list(zip(sources, plan_outputs(sources, args.output or DEFAULT_OUTPUT))), unmatched


def _find_sources(args: argparse.Namespace) -> tuple[list[Source], list[str]]:
    if args.webcam:
        return [WEBCAM], []
    if args.video_input is not None:
        sources, unmatched = find_sources([args.video_input])
        return [replace(source, is_video=True) for source in sources], unmatched
    return find_sources(args.input)


def _load_predictor(args: argparse.Namespace) -> tuple[Predict, Metadata, Reading]:
    if args.exported is not None:
        if args.opts:
            raise SoloFamilyError("--opts changes a config; an exported model has none")
        predict, metadata = load_exported(args.exported)
        return explained()(predict), metadata, exported_reading(args.exported)
    cfg = setup_cfg(args.config_file, args.opts)
    return explained(cfg)(load_predictor(cfg)), class_metadata(cfg), Reading.from_config(cfg)


def _bands(given: list[int], reading: Reading) -> tuple[int, ...]:
    """Return the channels of `--bands`, counted in the order of the model's working format."""
    count = reading.format.count
    if not all(1 <= band <= count for band in given):
        raise SoloFamilyError(
            f"--bands is {' '.join(map(str, given))}; the model has {count} channels. Give three "
            f"from 1 to {count}."
        )
    return tuple(given)


def _print_summary(jobs: list[Job], failed: int, skipped: int) -> None:
    output = jobs[0][1]
    if output is not None:
        where = output if len(jobs) == 1 else output.parent
        print(f"{len(jobs) - failed} written to {where}, {skipped} skipped")
