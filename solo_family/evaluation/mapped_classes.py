"""Evaluation on a dataset that has the model's classes in another order.

Shape letters: K classes, H W height and width of an image.
"""

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.evaluation import DatasetEvaluator
from detectron2.structures import Instances


class MappedClasses(DatasetEvaluator):
    """Convert predictions to the dataset's order of classes, and pass them to an evaluator.

    Args:
        evaluator: the evaluator of the dataset.
        places: the dataset's index of each of the model's K classes.
    """

    def __init__(self, evaluator: DatasetEvaluator, places: Sequence[int]) -> None:
        self.evaluator = evaluator
        self._places = torch.tensor(places)

    def reset(self) -> None:
        """Begin a new evaluation."""
        self.evaluator.reset()

    def process(self, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> None:
        """Convert and pass on the predictions of a batch of images."""
        self.evaluator.process(inputs, [self._mapped(output) for output in outputs])

    def evaluate(self) -> Any:
        """Return the metrics."""
        return self.evaluator.evaluate()

    def _mapped(self, output: dict[str, Any]) -> dict[str, Any]:
        """Return an image's output in the dataset's order; the given output is not changed."""
        mapped = dict(output)
        if "instances" in output:
            fields = dict(output["instances"].get_fields())
            classes = fields["pred_classes"]
            fields["pred_classes"] = self._places.to(classes.device)[classes]
            mapped["instances"] = Instances(output["instances"].image_size, **fields)
        if "sem_seg" in output:  # [K, H, W]
            scores = output["sem_seg"]
            mapped["sem_seg"] = scores[self._places.argsort().to(scores.device)]
        if "panoptic_seg" in output:
            segments, infos = output["panoptic_seg"]
            mapped["panoptic_seg"] = (
                segments,
                infos
                and [
                    info | {"category_id": int(self._places[info["category_id"]])} for info in infos
                ],
            )
        return mapped
