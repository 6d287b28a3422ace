"""Predict on pictures, videos and the webcam one by one, and draw what is found."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import numpy as np
from detectron2.data import Metadata
from detectron2.utils.video_visualizer import VideoVisualizer
from tqdm import tqdm

from ..data.loading.images import Reading
from ..errors import DataError, OutOfMemoryError
from ..pictures.formats import frame_in_format
from ..predictor.drawing import draw_predictions, write_picture
from ..predictor.predictions import Predictions, describe
from ..saving.writer import ResultWriter
from .inputs import WEBCAM, Source, Video, read_picture
from .tiled_pictures import TiledPictures
from .window import show_picture
from .writers import video_writer

logger = logging.getLogger(__name__)

Job = tuple[Source, Path | None]
Predict = Callable[[np.ndarray], Predictions]


class Demo:
    """Predict on sources one by one, and write the predictions as pictures and files of results.

    Args:
        predict: maps an (H, W, C) uint8 image of the reading's format to detectron2's output
            dict, with any of "instances", "sem_seg" and "panoptic_seg".
        metadata: the metadata of the dataset that names the categories.
        keep: selects the predictions that are drawn and saved, on the CPU.
        writer: saves the results; it must be open while `run` works.
        shows: whether to show each picture in a window as well.
        reading: how picture files are read.
        tiled: predicts picture files by tiles; None predicts them as a whole.
        skips_existing: whether pictures whose output exists are left as they are; not if results
            are saved, which need all pictures.

    Attributes:
        writer: see above.
        existing: how many outputs were left as they are.
        incomplete: how many pictures have a part that could not be read.
    """

    def __init__(
        self,
        *,
        predict: Predict,
        metadata: Metadata,
        keep: Callable[[Predictions], Predictions],
        writer: ResultWriter | None = None,
        shows: bool = False,
        reading: Reading | None = None,
        tiled: TiledPictures | None = None,
        skips_existing: bool = False,
    ) -> None:
        self._predict = predict
        self._tiled = tiled
        self.writer = writer or ResultWriter(())
        self._skips_existing = skips_existing and not self.writer.saves
        self._reading = reading or Reading()
        self._metadata = metadata
        self._keep = keep
        self._shows = shows
        self._image_id = 0
        self.existing = self.incomplete = 0

    def run(self, jobs: Iterable[Job]) -> int:
        """Process every job, and report in one line each those that can't be read or written.

        Args:
            jobs: each source with the file to write, or None to write none.

        Returns:
            The number of skipped inputs.
        """
        skipped = 0
        for source, output in jobs:
            if self._skips_existing and output is not None and output.exists():
                logger.info("%s: %s is there already", source, output)
                self.existing += 1
                continue
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
        start = time.perf_counter()
        if self._tiled is not None and source.path is not None:
            image, found, unread = self._tiled(source.path, output)
            self.incomplete += bool(unread)
        else:
            image = read_picture(source, self._reading)
            start = time.perf_counter()
            found = self._predict(image)
        predictions = self._keep(found)
        seconds = time.perf_counter() - start
        logger.info("%s: %s in %.2f s", source, describe(predictions), seconds)
        picture = self._reading.picture(image)
        self._save(predictions, picture, file_name=str(source))
        if output is None and not self._shows:
            return
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
            for drawn in self._drawn_frames(source, video, output is not None or self._shows):
                frames += 1
                if writer is not None:
                    writer.write(drawn)
                if self._shows:
                    show_picture(drawn, milliseconds=1)
        logger.info("%s: %d frames in %.2f s", source, frames, time.perf_counter() - start)

    def _drawn_frames(self, source: Source, video: Video, draws: bool) -> Iterator[np.ndarray]:
        # One for the whole video, because it keeps an object's colour from frame to frame.
        visualizer = VideoVisualizer(self._metadata)
        frames = tqdm(video, source.name, video.expected_frames, leave=False, unit="frame")
        for index, frame in enumerate(frames):
            self._image_id += 1
            given = frame_in_format(frame, self._reading.format)
            predictions = self._keep(self._predict(given))
            self._save(predictions, frame, file_name=str(source), frame=index)
            yield draw_predictions(visualizer, frame, predictions) if draws else frame

    def _save(self, predictions: Predictions, image: np.ndarray, **where: str | int) -> None:
        self.writer.add(predictions, image, self._image_id, **where)
