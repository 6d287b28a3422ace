"""Pictures of a training for TensorBoard and its like: predictions beside the ground truth."""

from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import Metadata
from detectron2.engine import HookBase
from detectron2.structures import Instances
from detectron2.utils.colormap import random_color
from torch import nn

from ..data.formats.classes import class_names, is_class_agnostic, stuff_ids
from ..modeling.class_colours import with_class_colours
from ..pictures.formats import parse_format, to_picture

_PICTURES_AT_ONCE = 4


class TrainingPictures(HookBase):
    """Draw the predictions of a batch beside its ground truth, every `VIS_PERIOD` iterations.

    A class of pixels has the same colour on both sides and in all pictures.

    Args:
        model: the trained model, without a DDP wrapper.
        cfg: the configuration.
    """

    trainer: Any  # `Trainer`, as above

    def __init__(self, model: nn.Module, cfg: CfgNode) -> None:
        self._model = model
        self._period = cfg.VIS_PERIOD
        # Ground truth has the dataset's classes, which a class-agnostic model lacks.
        names = [] if is_class_agnostic(cfg) else class_names(cfg)
        self._stuff = frozenset(stuff_ids(cfg, len(names)))
        self._metadata = with_class_colours(Metadata(thing_classes=names, stuff_classes=names))
        self._format, self._bands = parse_format(cfg.INPUT.FORMAT), tuple(cfg.INPUT.BANDS)

    def after_step(self) -> None:
        """Put images of the ground truth and the predictions, side by side, into the storage."""
        if (self.trainer.iter + 1) % self._period:
            return
        batch = self.trainer._trainer.last_batch[:_PICTURES_AT_ONCE]
        self._model.eval()
        with torch.no_grad():
            results = self._model([{"image": item["image"]} for item in batch])
        self._model.train()
        for index, (item, result) in enumerate(zip(batch, results)):
            image = item["image"].permute(1, 2, 0).numpy()
            image = to_picture(image, self._format, self._bands)[:, :, ::-1]
            truth = self._drawn(image, item["instances"])
            if "instances" in result:
                predicted = self._drawn(image, result["instances"].to("cpu"))
            else:
                predicted = self._drawn_other(image, result)
            sides = [truth, predicted]
            picture = np.concatenate(sides, axis=1).transpose(2, 0, 1)
            self.trainer.storage.put_image(f"truth_and_prediction/{index}", picture)

    def _visualizer(self, image: np.ndarray) -> Any:
        # Imported here, with matplotlib, because most runs draw nothing.
        from detectron2.utils.visualizer import Visualizer

        return Visualizer(np.ascontiguousarray(image), self._metadata)

    def _drawn_other(self, image: np.ndarray, result: dict[str, Any]) -> np.ndarray:
        """Return the RGB image with panoptic segments, or with the class of every pixel, drawn."""
        visualizer = self._visualizer(image)
        if "panoptic_seg" in result:
            segmentation, segments = result["panoptic_seg"]
            return visualizer.draw_panoptic_seg(segmentation.cpu(), segments).get_image()
        return visualizer.draw_sem_seg(result["sem_seg"].argmax(0).cpu()).get_image()

    def _drawn(self, image: np.ndarray, instances: Instances) -> np.ndarray:
        """Return the RGB image with ground truth, or predictions with scores above 0.3, drawn."""
        visualizer = self._visualizer(image)
        if instances.has("scores"):
            confident = instances[instances.scores > 0.3]
            return visualizer.draw_instance_predictions(confident).get_image()
        names, classes = self._metadata.thing_classes, instances.gt_classes.tolist()
        return visualizer.overlay_instances(
            labels=[names[c] if names else str(c) for c in classes],
            masks=instances.gt_masks.tensor.numpy() if instances.has("gt_masks") else None,
            assigned_colors=[self._colour(c) for c in classes],
        ).get_image()

    def _colour(self, label: int) -> np.ndarray:
        """Return the colour of a class of pixels, or one of chance for an object: RGB, 0 to 1."""
        if label in self._stuff:
            return np.array(self._metadata.stuff_colors[label]) / 255
        return random_color(rgb=True, maximum=1)
