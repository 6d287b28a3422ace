"""Apply a trained model to pictures."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Self, overload

import numpy as np
import torch
from detectron2.config import CfgNode
from PIL import Image

from ..class_maps import with_late_class_maps
from ..data.loading.ahead import ahead
from ..data.loading.windows import ArrayWindows, open_windows, read_whole
from ..errors import ConfigError
from ..saving.filters import Filters, find_labels
from ..tiling.model import refuse_unread
from ..tiling.predict import predict_by_tiles
from ..tiling.tiles import with_tile
from .images import to_working
from .predictions import Predictions, keep_confident
from .result import Result, metadata_names
from .sources import Source, from_name, open_source

Picture = str | Path | Image.Image | np.ndarray | torch.Tensor


class Predictor:
    """A trained model as a function that segments pictures.

    Args:
        source: the folder of a training run, a folder that `publish` or `export` wrote, a config
            file, a configuration, or a name: "zoo:" and one of `model_zoo.list()`, or
            "hf:OWNER/REPO[/FILE][@REVISION]" for a model of the HuggingFace Hub.
        weights: a checkpoint to use instead of the source's, which for a run is `model_final.pth`,
            or its last checkpoint while it has not ended.
        device: for instance "cpu" or "cuda:1"; by default the configuration's, and the CPU where
            there is no GPU.
        confidence_threshold: instances and segments with lower scores are dropped, 0 to 1; by
            default the configuration's `TEST.CONFIDENCE_THRESHOLD` or, if there is none, the one
            with the best F1, which the report of a training has stored, or 0.5.
        classes: names or labels of the classes to keep, in all that is predicted; None for all.
        precision: the precision of the weights: "float32", "float16" or "bfloat16"; by default the
            configuration's `MODEL.INFERENCE.PRECISION`.
        tile: predict pictures by overlapping tiles of this many pixels a side, or of a size with an
            overlap, (1024, 128); 0 for not; by default the configuration's `TEST.TILE`.
        engine: what runs an exported model: "onnxruntime" (the default) or "openvino".

    A pickled predictor opens its model again, from the same files, where the pickle is read.

    Attributes:
        class_names: names of all classes, in the order of the model's outputs; empty if it has
            none.

    Raises:
        ConfigError: an argument or a key of the config can't work.
        DataError: a file is missing, or the weights don't fit the model.
    """

    def __init__(
        self,
        source: str | Path | CfgNode,
        weights: str | Path | None = None,
        *,
        device: str | torch.device | None = None,
        confidence_threshold: float | None = None,
        classes: Iterable[str | int] | None = None,
        precision: str | None = None,
        tile: int | tuple[int, int] | None = None,
        engine: str | None = None,
    ) -> None:
        keys = _keys(device, precision)
        kept = source.clone() if isinstance(source, CfgNode) else source  # it may be changed later
        opened = partial(open_source, kept, weights, keys, engine)
        self._set_up(opened, confidence_threshold, classes, tile)

    @classmethod
    def from_zoo(
        cls,
        name: str,
        *,
        trained: bool = True,
        device: str | torch.device | None = None,
        confidence_threshold: float | None = None,
        classes: Iterable[str | int] | None = None,
        precision: str | None = None,
        tile: int | tuple[int, int] | None = None,
    ) -> Self:
        """Open a model of the zoo with its published weights, which are downloaded once.

        Args:
            name: one of `model_zoo.list()`, for instance "SOLOv2/solov2_R50_3x.yaml"; or a model of
                the HuggingFace Hub, see `Predictor`.
            trained: load the published weights instead of random ones.
            device: see `Predictor`.
            confidence_threshold: see `Predictor`.
            classes: see `Predictor`.
            precision: see `Predictor`.
            tile: see `Predictor`.

        Raises:
            ConfigError, DataError: see `model_zoo.get`.
        """
        predictor = cls.__new__(cls)
        opened = partial(from_name, name, trained, _keys(device, precision))
        predictor._set_up(opened, confidence_threshold, classes, tile)
        return predictor

    def _set_up(
        self,
        opened: Callable[[], Source],
        confidence_threshold: float | None,
        classes: Iterable[str | int] | None,
        tile: int | tuple[int, int] | None,
    ) -> None:
        source = opened()
        self._opened = opened
        self._predict = source.predict
        self._metadata = source.metadata
        self._reading = source.reading
        self._tiling = with_tile(source.tiling, tile)
        if confidence_threshold is None:
            confidence_threshold = source.threshold
        self.confidence_threshold = confidence_threshold
        self.class_names = metadata_names(source.metadata)
        labels = None if classes is None else tuple(find_labels(classes, self.class_names))
        self._filters = Filters(labels)

    @property
    def confidence_threshold(self) -> float:
        """The lowest score of the instances and segments that are kept; it may be changed.

        Raises:
            ConfigError: the new one is not between 0 and 1.
        """
        return self._threshold

    @confidence_threshold.setter
    def confidence_threshold(self, threshold: float) -> None:
        # Text has no order among numbers, and None none at all.
        if not hasattr(threshold, "__float__") or not 0 <= threshold <= 1:
            raise ConfigError(
                f"confidence_threshold is {threshold!r}; it must be a number between 0 and 1."
            )
        self._threshold = threshold

    def __getstate__(self) -> dict[str, Any]:
        """Leave the model out of a pickle: it may have been prepared for this very machine."""
        return {name: value for name, value in vars(self).items() if name != "_predict"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Open the model again, from the same files, where the pickle is read."""
        vars(self).update(state)
        self._predict = self._opened().predict

    @overload
    def __call__(
        self, pictures: Picture, *, channels: str | None = ..., batch_size: int = ...
    ) -> Result: ...

    @overload
    def __call__(
        self,
        pictures: list[Any] | tuple[Any, ...],
        *,
        channels: str | None = ...,
        batch_size: int = ...,
    ) -> list[Result]: ...

    def __call__(
        self,
        pictures: Picture | list[Any] | tuple[Any, ...],
        *,
        channels: str | None = None,
        batch_size: int = 4,
    ) -> Result | list[Result]:
        """Segment one picture, or each of a list.

        Args:
            pictures: the path of a file; a Pillow image; a numpy array, uint8 [H, W, 3]; a tensor,
                uint8 [3, H, W]; or a list of them. For a model of other channels (`INPUT.FORMAT`)
                arrays and tensors have these.
            channels: "RGB" or "BGR", for arrays and tensors.
            batch_size: number of pictures of a list that the model segments at once.

        Returns:
            The result of the picture, or a list with the result of each.

        Raises:
            DataError: a picture, or a part of it, can't be read, or an array's order of colours is
                not given.
            OutOfMemoryError: a picture, or a batch, is too large for the machine.
        """
        if not isinstance(pictures, list | tuple):
            return next(self._segment([pictures], channels, 1, 0))
        # The next batch is read while the model works; a thread would not help a single one.
        is_one = len(pictures) <= _checked(batch_size)
        return list(self._segment(pictures, channels, batch_size, 0 if is_one else 1))

    def stream(
        self, pictures: Iterable[Picture], *, channels: str | None = None, batch_size: int = 4
    ) -> Iterator[Result]:
        """Segment pictures without the results of all in memory.

        Args:
            pictures: any number of them. Those of a list are read a batch ahead, in a thread; those
                of a generator when they are needed, however long it takes.
            channels: see `__call__`.
            batch_size: see `__call__`.

        Returns:
            An iterator of the results, each of which is made when it is asked for.

        Raises:
            DataError, OutOfMemoryError: see `__call__`; in the place of the result.
        """
        is_list = isinstance(pictures, list | tuple)
        return self._segment(pictures, channels, _checked(batch_size), int(is_list))

    def _segment(
        self, pictures: Iterable[Picture], channels: str | None, batch_size: int, num_ahead: int
    ) -> Iterator[Result]:
        if self._tiling is not None:
            for picture in pictures:
                yield self._segment_by_tiles(picture, channels)
            return

        def read(batch: Sequence[Picture]) -> tuple[Sequence[Picture], list[np.ndarray]]:
            return batch, [to_working(picture, channels, self._reading) for picture in batch]

        iterator = iter(pictures)
        batches = iter(lambda: list(islice(iterator, batch_size)), [])
        for batch in ahead(map(read, batches), num_ahead, "Reading a picture"):
            yield from self._results(*batch)

    def _results(self, pictures: Sequence[Picture], images: list[np.ndarray]) -> list[Result]:
        with with_late_class_maps():
            found = self._predict(images)
        return [self._result(*one) for one in zip(found, images, pictures, strict=True)]

    def _segment_by_tiles(self, picture: Picture, channels: str | None) -> Result:
        assert self._tiling is not None
        if isinstance(picture, str | Path):
            windows = open_windows(str(picture), self._reading.image_format, self._reading)
        else:
            windows = ArrayWindows(to_working(picture, channels, self._reading))
        found = predict_by_tiles(self._predict, windows, self._tiling)
        refuse_unread(found.unread)
        return self._result(found.predictions, read_whole(windows), picture)

    def _result(self, predictions: Predictions, image: np.ndarray, picture: Picture) -> Result:
        file = {"file": picture} if isinstance(picture, str | Path) else {}
        shown = self._reading.picture(image)
        return Result(self._kept(predictions), self._metadata, shown, **file)

    def _kept(self, predictions: Predictions) -> Predictions:
        return self._filters(keep_confident(predictions, self._threshold))


def _checked(batch_size: int) -> int:
    if batch_size < 1:
        raise ConfigError(f"batch_size is {batch_size}; at least 1 is needed.")
    return batch_size


def _keys(device: str | torch.device | None, precision: str | None) -> list[Any]:
    given = {"MODEL.DEVICE": device, "MODEL.INFERENCE.PRECISION": precision}
    words = ((key, str(value)) for key, value in given.items() if value is not None)
    return [word for pair in words for word in pair]
