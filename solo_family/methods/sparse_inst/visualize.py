"""Draw the activation maps of SparseInst's predictions (arXiv 2203.12827).

N instances, G groups, H W of a picture.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from detectron2.data import Metadata
from detectron2.engine import DefaultPredictor
from detectron2.structures import Instances
from detectron2.utils.visualizer import Visualizer
from torch import Tensor

from ...errors import SoloFamilyError
from ...modeling.drawing import Drawing, DrawingOptions, Picture, network_input
from ...ops.resize import resize_soft_masks
from .decoder import DecoderOutputs


def draw_activation_maps(
    predictor: DefaultPredictor, pictures: Iterable[Picture], options: DrawingOptions
) -> Iterator[Drawing]:
    """Draw the confident instances of every picture, each with its activation map; see `Draw`."""
    reader = MapReader(predictor)
    for picture in pictures:
        instances, maps = reader.instances(picture.model_input, options.confidence_threshold)
        yield Drawing(picture.name, draw_maps(picture.image, instances, maps, options.metadata()))


def draw_activation_statistics(
    predictor: DefaultPredictor, pictures: Iterable[Picture], options: DrawingOptions
) -> Iterator[Drawing]:
    """Draw the mean over all pictures of the maps that the options name; see `Draw`."""
    reader = MapReader(predictor)
    wrong = [index for index in options.maps if not 0 <= index < reader.count]
    if wrong:
        raise SoloFamilyError(
            f"--maps has {wrong[0]}; the model's maps are 0 to {reader.count - 1}."
        )
    responses = mean_responses(reader, (picture.model_input for picture in pictures), options.maps)
    yield Drawing("activation_statistics", draw_responses(responses, options.maps))


class MapReader:
    """Run a SparseInst model, and keep its activation maps beside its instances.

    Args:
        predictor: a predictor with such a model, whose results include their maps from then on.

    Attributes:
        count: the number of maps.
    """

    def __init__(self, predictor: DefaultPredictor) -> None:
        self.count: int = predictor.cfg.MODEL.SPARSE_INST.DECODER.NUM_MASKS
        self._predictor = predictor
        self._model = predictor.model
        self._model.output_maps = True
        self._maps: Tensor
        self._model.decoder.register_forward_hook(self._keep)

    def _keep(self, module: Any, inputs: Any, outputs: DecoderOutputs) -> None:
        self._maps = outputs.activation_maps[0]

    def instances(self, image: np.ndarray, threshold: float) -> tuple[Instances, np.ndarray]:
        """Predict instances and their maps, averaged over the groups.

        Args:
            image: uint8 [H, W, C]; see `Picture.model_input`.
            threshold: the lowest score.

        Returns:
            The instances, and float32 [N, H, W].
        """
        everything = self._predictor(image)["instances"].to("cpu")
        instances = everything[everything.scores >= threshold]
        height, width = image.shape[:2]
        return instances, self._resize(instances.activation_maps.mean(1), image, (height, width))

    def responses(
        self, image: np.ndarray, indices: Sequence[int], size: tuple[int, int]
    ) -> np.ndarray:
        """Return the maps of some predictions, confident or not: float32 [len(indices), *size]."""
        self._predictor(image)
        return self._resize(self._maps.mean(0)[list(indices)].cpu(), image, size)

    def _resize(self, maps: Tensor, image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Crop maps of the network's padded input to the picture, and scale them to `size`."""
        if not len(maps):
            return np.zeros((0, *size), np.float32)
        step = self._model.size_divisibility
        height, width = network_input(self._predictor, image).shape[-2:]
        padded = (-(-height // step) * step, -(-width // step) * step)
        return resize_soft_masks(maps, padded, (height, width), size).numpy()


def draw_maps(
    image: np.ndarray, instances: Instances, maps: np.ndarray, metadata: Metadata
) -> np.ndarray:
    """Draw every instance's mask, and to the right of it its activation map (Fig. 6).

    Args:
        image: uint8 [H, W, 3], BGR.
        instances: N, on the CPU.
        maps: float32 [N, H, W].
        metadata: names the classes.

    Returns:
        uint8 [max(N, 1) x H, 2 x W, 3], BGR; without instances, the picture itself, twice.
    """
    rows = [
        np.concatenate([_mask(image, instances[index : index + 1], metadata), _heat(image, one)], 1)
        for index, one in enumerate(maps)
    ]
    return np.concatenate(rows or [np.concatenate([image, image], 1)])


def mean_responses(
    reader: MapReader, images: Iterable[np.ndarray], indices: Sequence[int]
) -> Tensor:
    """Average maps over pictures, each scaled to one size (Fig. 5).

    Args:
        reader: a reader of the model.
        images: uint8 [H, W, 3] each, BGR.
        indices: which maps to average.

    Returns:
        float64 [len(indices), 64, 64].
    """
    total, count = torch.zeros(len(indices), 64, 64, dtype=torch.float64), 0
    for image in images:
        total += torch.from_numpy(reader.responses(image, indices, (64, 64)))
        count += 1
    return total / max(count, 1)


def draw_responses(responses: Tensor, indices: Sequence[int]) -> np.ndarray:
    """Draw mean responses as a grid of heat maps, each scaled to its own range and numbered."""
    side, columns = 192, 8
    rows = -(-len(indices) // columns)
    grid = np.full((rows * (side + 20), min(columns, len(indices)) * side, 3), 255, np.uint8)
    for place, (index, response) in enumerate(zip(indices, responses.numpy())):
        top, left = place // columns * (side + 20), place % columns * side
        heat = cv2.resize(_colours(response), (side - 4, side - 4))
        grid[top + 20 : top + 16 + side, left : left + side - 4] = heat
        label = f"{index}: {response.mean():.3g}"
        cv2.putText(grid, label, (left, top + 15), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1)
    return grid


def _mask(image: np.ndarray, instance: Instances, metadata: Metadata) -> np.ndarray:
    visualizer = Visualizer(image[:, :, ::-1], metadata)
    drawn = visualizer.draw_instance_predictions(instance).get_image()
    # matplotlib's picture may be one pixel larger or smaller.
    return cv2.resize(drawn[:, :, ::-1], (image.shape[1], image.shape[0]))


def _heat(image: np.ndarray, values: np.ndarray) -> np.ndarray:
    return cv2.addWeighted(image, 0.4, _colours(values), 0.6, 0)


def _colours(values: np.ndarray) -> np.ndarray:
    low, high = float(values.min()), float(values.max())
    scaled = (values - low) / max(high - low, 1e-12) * 255
    return cv2.applyColorMap(scaled.astype(np.uint8), cv2.COLORMAP_JET)
