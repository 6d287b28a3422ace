"""Hold what a model predicted for one picture.

N instances, H W of the picture.
"""

from pathlib import Path
from typing import Any

import numpy as np
from detectron2.data import Metadata
from detectron2.structures import Instances
from detectron2.utils.video_visualizer import VideoVisualizer
from detectron2.utils.visualizer import GenericMask

from ..class_maps import made
from ..ops.label_maps import class_of_pixels
from ..saving.picture import Classes
from ..saving.saver import Options
from ..saving.units import parse_pixel_size
from ..saving.writer import PICTURES, ResultWriter, check_formats, make_savers
from .drawing import draw_predictions, write_picture
from .predictions import Predictions, coco_results


def metadata_names(metadata: Metadata) -> list[str]:
    """Return the names of all classes, in the order of the model's outputs."""
    return list(metadata.get("thing_classes") or metadata.get("stuff_classes") or [])


class Result:
    """The prediction of one picture, in numpy and in detectron2's form.

    Attributes:
        metadata: names and colours of the classes.
        image: the picture, uint8 [H, W, 3], BGR.
        file: the picture's file, or a name for a picture that has none.
    """

    def __init__(
        self,
        predictions: Predictions,
        metadata: Metadata,
        image: np.ndarray,
        file: str | Path = "picture.png",
    ) -> None:
        # `sem_seg` may be a LabelMap or LateScores, which take little memory.
        self._predictions = predictions
        self.metadata = metadata
        self.image = image
        self.file = Path(file)

    @property
    def predictions(self) -> Predictions:
        """detectron2's dict, with any of "instances", "sem_seg" and "panoptic_seg", on the CPU.

        A panoptic model's `sem_seg`, float32 [K, H, W], is made when this is first read.
        """
        if "sem_seg" in self._predictions:
            self._predictions["sem_seg"] = made(self._predictions["sem_seg"])
        return self._predictions

    @property
    def instances(self) -> Instances:
        """detectron2's `Instances`: pred_masks, pred_boxes, scores, pred_classes.

        Raises:
            AttributeError: the model predicts no instances.
        """
        return self._of("instances", "instances")

    @property
    def masks(self) -> np.ndarray:
        """The instances' masks, bool [N, H, W]."""
        return self.instances.pred_masks.numpy()

    @property
    def boxes(self) -> np.ndarray:
        """Boxes tight around the masks, float32 [N, 4]: x0 y0 x1 y1 in pixels, ends exclusive."""
        return self.instances.pred_boxes.tensor.numpy()

    @property
    def scores(self) -> np.ndarray:
        """The instances' scores, float32 [N], 0 to 1, descending."""
        return self.instances.scores.numpy()

    @property
    def labels(self) -> np.ndarray:
        """The instances' classes, int64 [N]: indices into `class_names`."""
        return self.instances.pred_classes.numpy()

    @property
    def names(self) -> list[str]:
        """The name of each instance's class; the index of the class if the model has no names."""
        names = self.class_names
        return [names[label] if label < len(names) else str(label) for label in self.labels]

    @property
    def class_names(self) -> list[str]:
        """The names of all classes, in the order of the model's outputs."""
        return metadata_names(self.metadata)

    @property
    def panoptic(self) -> tuple[np.ndarray, list[dict[str, Any]]]:
        """Segment ids, int [H, W], 0 for none; and for each segment its id and category_id.

        Raises:
            AttributeError: the model predicts no panoptic segmentation.
        """
        segments, infos = self._of("panoptic_seg", "panoptic segmentation")
        return segments.numpy(), infos

    @property
    def semantic(self) -> np.ndarray:
        """The class of every pixel, int64 [H, W].

        A pixel whose class is not kept has the number of classes, which is no class.

        Raises:
            AttributeError: the model predicts no semantic segmentation.
        """
        return class_of_pixels(self._of("sem_seg", "semantic segmentation")).numpy()

    def __len__(self) -> int:
        """Return the number of instances."""
        return len(self.instances)

    def __repr__(self) -> str:
        height, width = self.image.shape[:2]
        parts = [f"{width}x{height}"]
        if "instances" in self._predictions:
            parts.append(f"{len(self)} instances")
        parts += [name for name in ("panoptic_seg", "sem_seg") if name in self._predictions]
        return f"Result({', '.join(parts)})"

    def plot(self, path: str | Path | None = None) -> np.ndarray:
        """Draw the prediction on the picture: panoptic, else semantic, else instances.

        Args:
            path: a file to write the picture to, .png or .jpg; None writes none.

        Returns:
            uint8 [H, W, 3], RGB.

        Raises:
            DataError: the file can't be written.
        """
        drawn = draw_predictions(VideoVisualizer(self.metadata), self.image, self._predictions)
        if path is not None:
            write_picture(Path(path), drawn)
        return np.ascontiguousarray(drawn[:, :, ::-1])

    def to_coco(self, image_id: int = 1) -> list[dict[str, Any]]:
        """Return the instances as COCO results: boxes as x, y, w, h; masks as compressed RLE.

        Args:
            image_id: written into each result.
        """
        return coco_results({"instances": self.instances}, image_id, self.metadata)

    def save(
        self,
        folder: str | Path,
        *formats: str,
        polygon_tolerance: float | None = None,
        pixel_size: str | None = None,
    ) -> None:
        """Write files that other programs read, as `demo --save` does.

        Args:
            folder: the folder for the files, which is created.
            formats: some of "pictures" (the drawn picture), "coco", "coco-rle", "coco-results",
                "coco-vid", "labelme", "yolo", "label-map", "geojson", "panoptic", "cutouts" and
                "csv".
            polygon_tolerance: the most that polygons deviate from the masks, in pixels; by default
                as much as leaves an IoU of 0.98.
            pixel_size: of a pixel, for instance "0.25um", for areas in "geojson" and "csv".

        Raises:
            ConfigError: there is no such format, or it can't have what the model predicts.
            DataError: a file can't be written.
        """
        check_formats(formats)
        size = None if pixel_size is None else parse_pixel_size(pixel_size)
        options = Options(polygon_tolerance, size)
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        classes = Classes(self.metadata)
        names = [name for name in formats if name != PICTURES]
        with ResultWriter(make_savers(names, folder, classes, options)) as writer:
            writer.add(self._predictions, self.image, 1, file_name=str(self.file))
        if PICTURES in formats:
            self.plot(folder / self.file.with_suffix(".png").name)

    def polygons(self) -> list[list[np.ndarray]]:
        """Return the outlines of each instance's mask, float [P, 2] of x and y in pixels."""
        height, width = self.image.shape[:2]
        # One at a time, since those of a large image are in memory as runs.
        pixels = (np.asarray(mask, np.uint8) for mask in self.instances.pred_masks)
        masks = (GenericMask(mask, height, width) for mask in pixels)
        return [[outline.reshape(-1, 2) for outline in mask.polygons] for mask in masks]

    def _of(self, key: str, what: str) -> Any:
        if key not in self._predictions:
            there = ", ".join(self._predictions) or "nothing"
            raise AttributeError(f"This model predicts no {what}, but {there}.")
        return self._predictions[key]
