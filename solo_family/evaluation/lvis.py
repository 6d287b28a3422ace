"""LVIS's metrics of instances: detectron2's evaluator and the package lvis."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from detectron2.evaluation import LVISEvaluator, lvis_evaluation

from ..files import whole_files_of

logger = logging.getLogger(__name__)

TASKS = ("bbox", "segm")
METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "APr", "APc", "APf")


class LvisInstanceEvaluator(LVISEvaluator):
    """detectron2's LVISEvaluator, which counts LVIS's 300 detections of an image.

    The AP where nothing was predicted is 0, with a reason; detectron2 returns NaN.

    Args:
        name: of a dataset with `evaluator_type` "lvis".
        output_dir: of the predictions.
    """

    def __init__(self, name: str, output_dir: str) -> None:
        super().__init__(name, tasks=TASKS, output_dir=output_dir)

    def evaluate(self) -> Any:
        """Return the metrics in the main process, and write the results to files that are whole."""
        with whole_files_of(lvis_evaluation), _numpy_that_lvis_knows():
            return super().evaluate()

    def _eval_predictions(self, predictions: list[dict[str, Any]]) -> None:
        super()._eval_predictions(predictions)
        if self._do_evaluation and not any(image["instances"] for image in predictions):
            logger.warning(
                "No instance was predicted on any image, so that the AP is 0: no score exceeded "
                "the model's thresholds. It may have trained for too short a time."
            )
            for task in TASKS:
                self._results[task] = dict.fromkeys(METRICS, 0.0)


class _OldNumpy:
    """numpy with a name that it no longer has, and lvis 0.5.3 still uses."""

    float = float

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


@contextmanager
def _numpy_that_lvis_knows() -> Iterator[None]:
    """Let the package lvis run with current numpy."""
    from lvis import eval as lvis_eval

    before = lvis_eval.np
    lvis_eval.np = _OldNumpy()
    try:
        yield
    finally:
        lvis_eval.np = before
