"""Run an exported model with numpy, OpenCV and an engine, and nothing else.

    from solo_family.export.runtime import ExportedModel
    model = ExportedModel("exported")
    found = model(model.read("image.jpg")).instances

It can be imported where torch and detectron2 are not installed. H W of an image, C of its channels.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError
from ..pictures.formats import COLOURS
from ..pictures.opencv import resize_by_opencv
from .engines import DEFAULT_ENGINE, GRAPH_INPUTS, open_engine
from .folder import read_description
from .instance_results import instance_results
from .pictures import read_picture
from .query_results import query_results
from .resize import fitting_size, resize_image, resize_smoothly, shortest_edge_size
from .results import Prediction, Sizes
from .window_results import Windows, window_results, windows_of


class ExportedModel:
    """A model that `python -m solo_family export` has written.

    Args:
        folder: the exported folder.
        providers: execution providers of ONNX Runtime, in order of preference; None for the CPU.
        threads: number of threads that one image may use; 0 leaves it to the engine.
        engine: "onnxruntime", or "openvino", which computes in float32 on the CPU.

    Attributes:
        description: the content of its `model.json`.
        thresholds: by name, may be changed: `score`, the lowest score of candidates; `mask`, the
            probability above which a pixel is in a mask; `keep`, the lowest score of a result.
            Other models have other thresholds.

    Raises:
        ConfigError: there is no such engine, or it has no providers.
        DataError: the folder is not an exported model, or the engine can't run it.
        SoloFamilyError: the engine is not installed.
    """

    def __init__(
        self,
        folder: str | Path,
        providers: Sequence[str] | None = None,
        threads: int = 0,
        engine: str = DEFAULT_ENGINE,
    ) -> None:
        self.folder = Path(folder)
        self.description = read_description(self.folder)
        self.thresholds: dict[str, Any] = dict(self.description["thresholds"])
        self.engine = open_engine(engine, self.folder, self.description, providers, threads)

    @property
    def classes(self) -> list[str]:
        """The names of the classes, in the order of the model's outputs."""
        return self.description["classes"]

    def __call__(self, image: np.ndarray) -> Prediction:
        """Segment one picture.

        Args:
            image: uint8 [H, W, 3], BGR; or [H, W, C] of a model of other channels, in their order.

        Raises:
            DataError: it is not such an array, or has a size that the model does not accept.
        """
        if self.description["task"] == "windows":
            return self._proposals(image)
        images, sizes = self.preprocess(image)
        return self.postprocess(self.forward(images), sizes)

    def read(self, path: str | Path) -> np.ndarray:
        """Read a picture for this model, with the channels and the range it was trained with.

        Returns:
            uint8 [H, W, C]; see `read_picture`.

        Raises:
            DataError: the file is missing, can't be decoded, or has other channels.
        """
        return read_picture(path, self.description["input"])

    def preprocess(self, image: np.ndarray) -> tuple[np.ndarray, Sizes]:
        """Resize a picture, put its channels in the model's order, and pad it.

        Args:
            image: see `__call__`.

        Returns:
            float32 [1, C, h, w], 0 to 255, for `forward`, and the sizes for `postprocess`.

        Raises:
            DataError: it is not such an array.
        """
        return self._pad(self.resize(image), image.shape)

    def resize(self, image: np.ndarray) -> np.ndarray:
        """Return a picture resized as the data loader does: uint8 [h, w, C].

        Args:
            image: see `__call__`.

        Raises:
            DataError: it is not such an array.
        """
        given = self.description["input"]
        channels, is_colour = len(given["pad_value"]), given["color"] in COLOURS
        if image.dtype != np.uint8 or image.shape[2:] != (channels,) or not image.size:
            order = ", BGR" if is_colour else f" in the order of INPUT.FORMAT {given['color']}"
            raise DataError(
                f"An image must be uint8 [H, W, {channels}]{order}, but is {image.dtype} "
                f"{list(image.shape)}; `ExportedModel.read` returns such an array."
            )
        height, width = image.shape[:2]
        size = shortest_edge_size(height, width, given["min_size"], given["max_size"])
        if given["size"] is not None:
            size = fitting_size(height, width, given["size"])
        image = image[:, :, ::-1] if given["color"] == "RGB" else image
        # Exports of before the key resize as Pillow does.
        by_opencv = given.get("resize") == "cv2"
        return resize_by_opencv(image, size) if by_opencv else resize_image(image, size)

    def _pad(self, image: np.ndarray, output_shape: tuple[int, ...]) -> tuple[np.ndarray, Sizes]:
        given = self.description["input"]
        height, width = image.shape[:2]
        step = given["divisibility"]
        padded = given["size"] or [-(-side // step) * step for side in (height, width)]
        count = given["batch_size"] or 1
        images = np.empty((count, len(given["pad_value"]), *padded), np.float32)
        images[:] = np.array(given["pad_value"], np.float32)[:, None, None]
        images[:, :, :height, :width] = image.transpose(2, 0, 1)
        sizes = Sizes((padded[0], padded[1]), (height, width), (output_shape[0], output_shape[1]))
        return images, sizes

    def forward(
        self, images: np.ndarray, image_sizes: np.ndarray | None = None
    ) -> dict[str, np.ndarray]:
        """Run the graph.

        Args:
            images: float32 [B, C, h, w], from `preprocess`.
            image_sizes: int64 [B, 2], heights and widths without padding; None if there is no
                padding.

        Returns:
            The graph's outputs by name: see `export_forward` of the method.

        Raises:
            DataError: the graph does not accept this size.
        """
        self._check_size(images)
        outputs = self.engine.run(self.inputs(images, image_sizes))
        return dict(zip(self.description["outputs"], outputs))

    def inputs(
        self, images: np.ndarray, image_sizes: np.ndarray | None = None
    ) -> dict[str, np.ndarray]:
        """Return all inputs of the graph, by name; see `forward`."""
        if image_sizes is None:
            image_sizes = np.array([images.shape[2:]] * len(images), np.int64)
        threshold = np.array(self.thresholds.get("score", 0), np.float32)
        values = dict(zip(GRAPH_INPUTS, (images, threshold, image_sizes)))
        return {name: values[name] for name in self.engine.inputs}

    def _check_size(self, images: np.ndarray) -> None:
        given = self.description["input"]
        batch, channels, *size = given["batch_size"], len(given["pad_value"]), *images.shape[2:]
        accepted = (batch or max(len(images), 1), channels)
        if images.ndim != 4 or images.shape[:2] != accepted:
            raise DataError(
                f"{self.folder} takes images of [{batch or 'B'}, {channels}, h, w], "
                f"but these are {list(images.shape)}."
            )
        if given["size"] is not None and size != given["size"]:
            raise DataError(
                f"{self.folder} takes images of {given['size'][0]} x {given['size'][1]} only, but "
                f"these are {size[0]} x {size[1]}: resize and pad them, or export with --dynamic."
            )
        step = given["divisibility"]
        if any(side % step or side == 0 for side in size):
            raise DataError(
                f"{self.folder} takes images of multiples of {step}, but these are {size[0]} x "
                f"{size[1]}: pad them with {given['pad_value']}."
            )

    def _proposals(self, image: np.ndarray) -> Prediction:
        """Run InstanceFCN at every scale, with one NMS over all windows."""
        resized = self.resize(image)
        height, width = resized.shape[:2]
        edges = self.description["test_scales"]
        if self.description["input"]["size"] is not None:
            edges = []  # the graph has one size, and so one scale
        images = [resized]
        if edges:
            largest = self.description["test_max_size"]
            scaled = [shortest_edge_size(height, width, edge, largest) for edge in edges]
            images = [resize_smoothly(resized.astype(np.float32), size) for size in scaled]
        scales, truncated = [], False
        for one in images:
            padded, sizes = self._pad(one, image.shape)
            outputs = self.forward(padded, np.array([sizes.image] * len(padded), np.int64))
            scales.append(self._windows(outputs, sizes))
            truncated |= self._is_truncated(outputs)
        settings = self.description["results"]
        found = window_results(scales, sizes.output, self.thresholds, settings)
        return Prediction(found, truncated=truncated)

    def _is_truncated(self, outputs: dict[str, np.ndarray]) -> bool:
        limit = self.description.get("candidates")
        return limit is not None and bool(outputs["candidates"][0] > limit)

    def _windows(self, outputs: dict[str, np.ndarray], sizes: Sizes) -> Windows:
        height, width = (
            self.description["stride"] * output / image
            for output, image in zip(sizes.output, sizes.image)
        )
        return windows_of(outputs, (height, width))

    def postprocess(self, outputs: dict[str, np.ndarray], sizes: Sizes) -> Prediction:
        """Turn the first image's outputs into results at the size of the picture.

        This does not apply to InstanceFCN, whose results combine several runs.
        """
        if self.description["task"] == "queries":
            return query_results(
                outputs["class_probabilities"][0],
                outputs["mask_logits"][0],
                sizes,
                self.thresholds,
                self.description["results"],
            )
        prediction = instance_results(
            outputs, sizes, self.thresholds, self.description.get("results", {})
        )
        return prediction._replace(truncated=self._is_truncated(outputs))


def read_image(path: str | Path) -> np.ndarray:
    """Read a picture as uint8 [H, W, 3], BGR, rotated upright according to its EXIF tag.

    `ExportedModel.read` reads files as the model was trained with them, also those of more than 8
    bits or of other channels.

    Raises:
        DataError: it is missing or can't be decoded.
    """
    return read_picture(path)
