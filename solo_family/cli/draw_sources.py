"""Predict on pictures, videos and cameras in batches, and draw and save what is found.

While the model works on a batch, one thread reads the next and another draws the one before.
"""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
from detectron2.utils.video_visualizer import VideoVisualizer

from ..data.loading.ahead import ahead
from ..errors import DataError, OutOfMemoryError
from ..pictures.formats import frame_in_format
from ..predictor.predictions import Predictions
from ..predictor.tracking import Tracker
from ..progress import Progress
from ..saving.journal import Known
from .batches import Batches, Item, predict_each, read_picture
from .draw_items import Drawing
from .finishing import Finishing
from .frame_writer import FrameWriter
from .source import Source
from .tiled_pictures import TiledPictures
from .video import Video

logger = logging.getLogger(__name__)

Job = tuple[Source, Path | None]
Finish = Callable[[Item, Predictions, float], None]


@dataclass
class Demo:
    """Predict on sources, and write the predictions as pictures and files of results.

    Attributes:
        predict: maps uint8 [H, W, C] images of the reading's format to detectron2's output dicts,
            with any of "instances", "sem_seg" and "panoptic_seg".
        drawing: what is done with them.
        batch: how many pictures or frames are predicted at once.
        tiled: predicts picture files by tiles; None predicts them as a whole.
        skips_existing: whether outputs that exist are left as they are, unless the picture or the
            model was written after them. Where results are saved, which need all pictures, those
            that an interrupted run has predicted are saved again.
        tracker: gives the objects of a video numbers, for its frames per second; None gives none.
        written: when the model was, in seconds; 0 where it is unknown.
        existing: how many outputs were left as they are.
        incomplete: how many inputs have a part that could not be read.
        skipped: how many inputs could not be read or written.
    """

    predict: Callable[[list[np.ndarray]], list[Predictions]]
    drawing: Drawing
    batch: int = 1
    tiled: TiledPictures | None = None
    skips_existing: bool = False
    tracker: Callable[[float], Tracker] | None = None
    written: float = 0.0
    existing: int = 0
    incomplete: int = 0
    skipped: int = 0

    def __post_init__(self) -> None:
        self._image_id = 0
        # Windows belong to the main thread.
        self._is_threaded = not self.drawing.in_window

    def run(self, jobs: Sequence[Job]) -> int:
        """Process every job, and report in one line each those that can't be read or written.

        Args:
            jobs: each source with the file to write, or None to write none.

        Returns:
            The number of skipped inputs.
        """
        with Progress(total=len(jobs), unit="input", disable=len(jobs) == 1) as self._progress:
            todo = filter(self._is_to_do, jobs)
            # Pictures that follow one another share batches; every video has its own.
            for are_videos, group in groupby(todo, key=lambda job: job[0].is_video):
                if not are_videos and self.tiled is None:
                    self._run_pictures(group)
                    continue
                for source, output in group:
                    function = self._run_video if are_videos else self._run_tiled
                    self._reporting(source, function, source, output)
                    self._progress.update()
        return self.skipped

    def _is_to_do(self, job: Job) -> bool:
        source, output = job
        saves = self.drawing.writer.saves
        if saves or output is None or not self._is_left(source, output):
            return True
        logger.info("%s: %s is there already", source, output)
        self.existing += 1
        self._progress.update()
        return False

    def _reporting(self, source: Source, function: Callable[..., None], *arguments: object) -> None:
        try:
            function(*arguments)
        except DataError as error:
            logger.error("skipped %s", error)
            self.skipped += 1
        except OutOfMemoryError as error:
            logger.error("skipped %s: %s", source, error)
            self.skipped += 1

    def _run_pictures(self, jobs: Iterable[Job]) -> None:
        def finish(item: Item, found: Predictions, seconds: float) -> None:
            self._reporting(item.source, self.drawing.picture, item, found, seconds)
            self._progress.update()

        read_ahead = self.batch if self._is_threaded else 0
        items = ahead(map(self._read, jobs), read_ahead, "Reading a picture")
        with Finishing(is_threaded=self._is_threaded) as finishing:
            self._predict(items, finishing, finish)

    def _read(self, job: Job) -> Item:
        source, output = job
        # Counted before reading, so that it is the picture's position in the input.
        self._image_id += 1
        item = Item(source, self._missing(source, output), self._image_id)
        if item.output is None:
            item.known = self._known(source)
        try:
            item.image = read_picture(source, self.drawing.reading)
        except DataError as error:
            item.error = error
        return item

    def _missing(self, source: Source, output: Path | None) -> Path | None:
        """Return the file to draw to, or None if it is there and is left."""
        return None if output is None or self._is_left(source, output) else output

    def _is_left(self, source: Source, output: Path) -> bool:
        """Return whether an output is there, and what it was drawn with is not newer."""
        if not self.skips_existing or not output.exists():
            return False
        since = self.written
        if source.path is not None and source.path.exists():
            since = max(since, source.path.stat().st_mtime)
        return output.stat().st_mtime >= since

    def _known(self, source: Source, frame: int | None = None) -> Known | None:
        return self.drawing.writer.known(source.where(frame)) if self.skips_existing else None

    def _predict(self, items: Iterable[Item], finishing: Finishing, finish: Finish) -> None:
        """Predict items in batches, and pass each to `finish` with what was found and the time."""
        for batch in Batches(items, self.batch):
            finishing.make_room(sum(item.pixels for item in batch))
            todo = [item for item in batch if item.image is not None and item.known is None]
            images = [item.image for item in todo if item.image is not None]
            start = time.perf_counter()
            found = iter(predict_each(self.predict, images))
            seconds = (time.perf_counter() - start) / max(1, len(images))
            for item in batch:
                predictions: Predictions = {}
                if item.image is not None and item.known is None:
                    one = next(found)
                    if isinstance(one, OutOfMemoryError):
                        item.error = one
                    else:
                        predictions = one
                finishing(item.pixels, finish, item, predictions, seconds)

    def _run_tiled(self, source: Source, output: Path | None) -> None:
        assert self.tiled is not None
        self._image_id += 1
        start = time.perf_counter()
        item = Item(source, self._missing(source, output), self._image_id)
        known = self._known(source) if item.output is None else None
        if known is not None:
            item.image, item.known = self.tiled.read(source), known
            self.drawing.picture(item, {}, 0.0)
            return
        item.image, found, unread = self.tiled(source, output)
        item.is_whole = not unread
        self.incomplete += bool(unread)
        self.drawing.picture(item, found, time.perf_counter() - start)

    def _run_video(self, source: Source, output: Path | None) -> None:
        start = time.perf_counter()
        frames, drawn_to = 0, self._missing(source, output)
        # Frames of a camera are shown when they come, and none are left when it is stopped.
        is_threaded = self._is_threaded and not source.is_live
        with ExitStack() as stack:
            video = stack.enter_context(Video(source))
            writer = None
            if drawn_to is not None:
                writer = stack.enter_context(FrameWriter(drawn_to, video.fps))
            if source.is_live:
                # It has no end of its own, so stopping it isn't an error.
                stack.enter_context(suppress(KeyboardInterrupt))
            finishing = stack.enter_context(Finishing(is_threaded=is_threaded))
            # One for the whole video, because it keeps an object's colour from frame to frame.
            visualizer = VideoVisualizer(self.drawing.metadata)
            tracker = None if self.tracker is None else self.tracker(video.fps)

            def finish(item: Item, found: Predictions, _: float) -> None:
                nonlocal frames
                self.drawing.frame(item, found, visualizer, writer, tracker)
                frames += 1

            read = self._read_frames(source, video, is_drawn=drawn_to is not None)
            items = ahead(read, self.batch if is_threaded else 0, f"Reading {source}")
            self._predict(items, finishing, finish)
        logger.info("%s: %d frames in %.2f s", source, frames, time.perf_counter() - start)
        if video.missing:
            logger.error("%s: its last %d frames can't be read", source, video.missing)
            self.incomplete += 1

    def _read_frames(self, source: Source, video: Video, *, is_drawn: bool) -> Iterator[Item]:
        frames = Progress(video, source.name, video.expected_frames, leave=False, unit="frame")
        for index, (image, seconds) in enumerate(frames):
            self._image_id += 1
            given = frame_in_format(image, self.drawing.reading.format)
            item = Item(source, None, self._image_id, given, None, index, seconds, image)
            if not is_drawn and self.tracker is None:  # tracks go through all frames
                item.known = self._known(source, index)
            yield item
