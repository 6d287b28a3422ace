"""Draw and save what was predicted of a picture or a frame."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from detectron2.data import Metadata
from detectron2.utils.video_visualizer import VideoVisualizer

from ..data.loading.images import Reading
from ..predictor.drawing import beside, draw_predictions, write_picture
from ..predictor.predictions import Predictions, describe
from ..predictor.tracking import Tracker
from ..saving.writer import ResultWriter
from .batches import Item
from .frame_writer import FrameWriter
from .window import show_picture

logger = logging.getLogger(__name__)


@dataclass
class Drawing:
    """What is done with predictions.

    Attributes:
        metadata: the metadata of the dataset that names the categories.
        keep: selects the predictions that are drawn and saved, on the CPU.
        writer: saves the results; it must be open meanwhile.
        reading: how picture files are read.
        in_window: show each picture in a window as well.
        side_by_side: draw each picture beside itself without predictions.
    """

    metadata: Metadata
    keep: Callable[[Predictions], Predictions]
    writer: ResultWriter = field(default_factory=lambda: ResultWriter(()))
    reading: Reading = field(default_factory=Reading)
    in_window: bool = False
    side_by_side: bool = False

    def picture(self, item: Item, found: Predictions, seconds: float) -> None:
        """Draw and save what was found in a picture.

        Args:
            item: the picture.
            found: what the model predicted.
            seconds: that it took.

        Raises:
            DataError: a file can't be written.
            Exception: the item's own error.
        """
        predictions, picture = self._kept(item, found)
        if item.known is not None:
            logger.info("%s: found by an earlier run", item.source)
        else:
            logger.info("%s: %s in %.2f s", item.source, describe(predictions), seconds)
        self._save(item, predictions, picture)
        if item.known is not None or (item.output is None and not self.in_window):
            return
        drawn = self._drawn(VideoVisualizer(self.metadata), picture, predictions)
        if item.output is not None:
            write_picture(item.output, drawn)
        if self.in_window:
            show_picture(drawn, milliseconds=0)

    def frame(
        self,
        item: Item,
        found: Predictions,
        visualizer: VideoVisualizer,
        video: FrameWriter | None,
        tracker: Tracker | None = None,
    ) -> None:
        """Draw and save what was found in a frame.

        Args:
            item: the frame.
            found: what the model predicted.
            visualizer: of the whole video.
            video: to which it is drawn; None for none.
            tracker: of the video; None gives objects no numbers.

        Raises:
            DataError: a file can't be written.
            Exception: the item's own error.
        """
        predictions, picture = self._kept(item, found)
        if tracker is not None:
            predictions = tracker(predictions)
        self._save(item, predictions, picture)
        if item.known is not None or (video is None and not self.in_window):
            return
        drawn = self._drawn(visualizer, picture, predictions)
        if video is not None:
            video.write(drawn, item.seconds)
        if self.in_window:
            show_picture(drawn, milliseconds=1)

    def _kept(self, item: Item, found: Predictions) -> tuple[Predictions, np.ndarray]:
        if item.error is not None:
            raise item.error
        assert item.image is not None
        picture = self.reading.picture(item.image) if item.picture is None else item.picture
        return {} if item.known is not None else self.keep(found), picture

    def _drawn(
        self, visualizer: VideoVisualizer, picture: np.ndarray, predictions: Predictions
    ) -> np.ndarray:
        drawn = draw_predictions(visualizer, picture, predictions)
        return beside(picture, drawn) if self.side_by_side else drawn

    def _save(self, item: Item, predictions: Predictions, picture: np.ndarray) -> None:
        self.writer.add(
            predictions,
            picture,
            item.image_id,
            name=item.source.own_name,
            known=item.known,
            keeps=item.is_whole,
            **item.source.where(item.frame),
        )
