"""Apply a trained model to pictures."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Self, overload

import numpy as np
import torch
from detectron2.config import CfgNode
from PIL import Image

from ..errors import ConfigError
from ..saving.filters import find_labels
from .images import to_bgr
from .predictions import Predictions, keep_confident
from .result import Result, metadata_names
from .sources import Source, from_zoo, open_source

Picture = str | Path | Image.Image | np.ndarray | torch.Tensor


class Predictor:
    """A trained model as a function that segments pictures.

    Args:
        source: the folder of a training run, a folder that `export` wrote, a config file, or a
            configuration.
        weights: a checkpoint to use instead of the source's, which for a run is `model_final.pth`,
            or its last checkpoint while it has not ended.
        device: for instance "cpu" or "cuda:1"; by default the configuration's, and the CPU where
            there is no GPU.
        confidence_threshold: instances and segments with lower scores are dropped, 0 to 1.
        classes: names or labels of the classes to keep; None for all.
        precision: the precision of the weights: "float32", "float16" or "bfloat16"; by default the
            configuration's `MODEL.INFERENCE.PRECISION`.

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
        device: str | None = None,
        confidence_threshold: float = 0.5,
        classes: Iterable[str | int] | None = None,
        precision: str | None = None,
    ) -> None:
        keys = [] if device is None else ["MODEL.DEVICE", device]
        self._set_up(
            open_source(source, weights, [*keys, *_precision(precision)]),
            confidence_threshold,
            classes,
        )

    @classmethod
    def from_zoo(
        cls,
        name: str,
        *,
        trained: bool = True,
        device: str | None = None,
        confidence_threshold: float = 0.5,
        classes: Iterable[str | int] | None = None,
        precision: str | None = None,
    ) -> Self:
        """Open a model of the zoo with its published weights, which are downloaded once.

        Args:
            name: one of `model_zoo.list()`, for instance "SOLOv2/solov2_R50_3x.yaml".
            trained: load the published weights instead of random ones.
            device: see `Predictor`.
            confidence_threshold: see `Predictor`.
            classes: see `Predictor`.
            precision: see `Predictor`.

        Raises:
            ConfigError, DataError: see `model_zoo.get`.
        """
        predictor = cls.__new__(cls)
        source = from_zoo(name, trained, device, _precision(precision))
        predictor._set_up(source, confidence_threshold, classes)
        return predictor

    def _set_up(
        self,
        source: Source,
        confidence_threshold: float,
        classes: Iterable[str | int] | None,
    ) -> None:
        if not 0 <= confidence_threshold <= 1:
            raise ConfigError(
                f"confidence_threshold is {confidence_threshold}; it must be between 0 and 1."
            )
        self._predict = source.predict
        self._metadata = source.metadata
        self._reading = source.reading
        self._threshold = confidence_threshold
        self.class_names = metadata_names(source.metadata)
        self._labels = None if classes is None else find_labels(classes, self.class_names)

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
                uint8 [3, H, W]; or a list of them.
            channels: "RGB" or "BGR", for arrays and tensors.
            batch_size: number of pictures of a list that the model segments at once.

        Returns:
            The result of the picture, or a list with the result of each.

        Raises:
            DataError: a picture can't be read, or an array's order of colours is not given.
            OutOfMemoryError: a picture, or a batch, is too large for the machine.
        """
        if not isinstance(pictures, list | tuple):
            return self._segment([self._read(pictures, channels)], [pictures])[0]
        if batch_size < 1:
            raise ConfigError(f"batch_size is {batch_size}; at least 1 is needed.")
        results: list[Result] = []
        for first in range(0, len(pictures), batch_size):
            batch = pictures[first : first + batch_size]
            results += self._segment([self._read(picture, channels) for picture in batch], batch)
        return results

    def _read(self, picture: Picture, channels: str | None) -> np.ndarray:
        return to_bgr(picture, channels, self._reading)

    def _segment(self, images: list[np.ndarray], given: Sequence[Picture]) -> list[Result]:
        files = [{"file": one} if isinstance(one, str | Path) else {} for one in given]
        return [
            Result(self._kept(predictions), self._metadata, image, **file)
            for image, predictions, file in zip(images, self._predict(images), files, strict=True)
        ]

    def _kept(self, predictions: Predictions) -> Predictions:
        predictions = keep_confident(predictions, self._threshold)
        if self._labels is not None and "instances" in predictions:
            instances = predictions["instances"]
            kept = torch.isin(instances.pred_classes, torch.tensor(self._labels))
            predictions["instances"] = instances[kept]
        return predictions


def _precision(precision: str | None) -> list[Any]:
    return [] if precision is None else ["MODEL.INFERENCE.PRECISION", precision]
