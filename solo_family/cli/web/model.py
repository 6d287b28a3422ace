"""The model behind the page: it predicts files, one at a time."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Event

import numpy as np

from ...class_maps import with_late_class_maps
from ...data.loading.images import read_image
from ...errors import SoloFamilyError
from ...predictor.predictions import Predictions, keep_confident
from ...predictor.sources import Source as Model
from ...saving.filters import Filters
from ...saving.saver import Options
from ...tiling.tiles import Tiling
from ..source import Source
from ..tiled_pictures import TiledPictures
from .small import made_small


class Closed(SoloFamilyError):
    """The page was closed while the model worked."""


@dataclass(frozen=True)
class Found:
    """What was predicted of a picture.

    Attributes:
        predictions: of `made_small`, of all scores.
        image: uint8 [H, W, 3], BGR.
        unread: for each part that could not be read, which and why.
    """

    predictions: Predictions
    image: np.ndarray
    unread: list[str]


@dataclass
class WebModel:
    """A model, with what the flags say of predicting and saving.

    Attributes:
        model: predicts pictures.
        name: for the page's title.
        tiling: how pictures are cut into tiles; None for not at all.
        filters: what is dropped of every prediction; the page chooses the classes.
        options: how results are saved.
    """

    model: Model
    name: str
    tiling: Tiling | None = None
    filters: Filters = field(default_factory=Filters)
    options: Options = field(default_factory=Options)

    def __post_init__(self) -> None:
        # One thread for all requests: each thread that computes would have threads of its own.
        self._thread = ThreadPoolExecutor(1, "model")
        self._closed, self._idle = Event(), Event()
        self._idle.set()

    def __call__(self, source: Source) -> Found:
        """Predict a picture, when those that were asked for before are done.

        Args:
            source: a file.

        Raises:
            DataError: the file can't be read.
            OutOfMemoryError: the picture is too large for the machine.
            Closed: `close` was called.
        """
        try:
            return self._thread.submit(self._found, source).result()
        except RuntimeError as error:  # the thread takes nothing more
            if self._closed.is_set():
                raise Closed("the page is closed") from error
            raise

    def read(self, source: Source) -> np.ndarray:
        """Return a picture again, uint8 [H, W, 3], BGR.

        Raises:
            DataError: the file can't be read.
        """
        if self.tiling is not None:
            image = self._tiled(self.tiling).read(source)
        else:
            image = self._read(source)
        return self.model.reading.picture(image)

    def close(self, seconds: float = 0) -> bool:
        """Predict nothing more; what the model works on ends at its next tile.

        Returns:
            Whether that has ended, for which so many seconds are waited.
        """
        self._closed.set()
        self._thread.shutdown(wait=False, cancel_futures=True)
        return self._idle.wait(seconds)

    def _found(self, source: Source) -> Found:
        self._idle.clear()
        try:
            return self._predicted(source)
        finally:
            self._idle.set()

    def _predicted(self, source: Source) -> Found:
        unread: list[str] = []
        if self.tiling is not None:
            image, predictions, unread = self._tiled(self.tiling)(source, None)
        else:
            image = self._read(source)
            (predictions,) = self._predict([image])
        small = made_small(keep_confident(predictions, 0.0))
        return Found(small, self.model.reading.picture(image), unread)

    def _read(self, source: Source) -> np.ndarray:
        reading = self.model.reading.of_page(source.page)
        return read_image(str(source.path), reading.image_format, reading)

    def _predict(self, images: list[np.ndarray]) -> list[Predictions]:
        if self._closed.is_set():
            raise Closed("the page is closed")
        with with_late_class_maps():
            return self.model.predict(images)

    def _tiled(self, tiling: Tiling) -> TiledPictures:
        return TiledPictures(
            predict=self._predict,
            tiling=tiling,
            reading=self.model.reading,
            model_key="",
            resumes=False,
        )
