"""Cityscapes' metrics of instances: detectron2's evaluator and the package cityscapesScripts."""

import importlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from detectron2.evaluation import CityscapesInstanceEvaluator

METRICS = ("segm/AP", "segm/AP50")


class CityscapesEvaluator(CityscapesInstanceEvaluator):
    """detectron2's evaluator, with current numpy.

    Args:
        name: of a dataset with `evaluator_type` "cityscapes_instance".
        _: predictions are written to a temporary folder.
    """

    def __init__(self, name: str, _: str) -> None:
        super().__init__(name)

    def evaluate(self) -> Any:
        """Return {"segm": metrics in percent} in the main process, else None."""
        with _numbers_of_numpy():
            return super().evaluate()


@contextmanager
def _numbers_of_numpy() -> Iterator[None]:
    """Let cityscapesScripts 2.3.0 write numbers of numpy, which `json` refuses.

    Its matches, which nothing reads, are not written to the current folder.
    """
    labeling = importlib.import_module(
        "cityscapesscripts.evaluation.evalInstanceLevelSemanticLabeling"
    )

    def write(content: Any, path: str) -> None:
        if path != "matches.json":
            Path(path).write_text(json.dumps(content, default=int), encoding="utf-8")

    before = vars(labeling)["writeDict2JSON"]
    vars(labeling)["writeDict2JSON"] = write
    try:
        yield
    finally:
        vars(labeling)["writeDict2JSON"] = before
