"""The metrics of a run's weights, as the run itself has measured them."""

import json
import math
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog

from ..data.formats.register import register_in_place
from ..evaluation.instance_results import most_per_image

_METRICS = "metrics.json"
_RESULTS = Path("inference", "coco_instances_results.json")
# The tasks of evaluations, as the log and metrics.json name them, and in words.
TASKS = {
    "segm": "instance segmentation",
    "panoptic_seg": "panoptic segmentation",
    "sem_seg": "semantic segmentation",
    "proposals": "mask proposals",
}


@dataclass(frozen=True)
class Scores:
    """What an evaluation of the weights gave.

    Attributes:
        metrics: values, in percent where they are rates, by names as "segm/AP".
        datasets: names of the datasets, without paths of this machine.
        images: their number of images; None if they are not on this machine.
        max_detections: how many detections of an image count for AP; None if it is not known.
    """

    metrics: dict[str, float] = field(default_factory=dict)
    datasets: tuple[str, ...] = ()
    images: int | None = None
    max_detections: int | None = None


def read_scores(run: Path, cfg: CfgNode, iteration: int | None, averaged: bool) -> Scores:
    """Return the metrics of weights in the run's `metrics.json`.

    Args:
        run: its folder.
        cfg: its configuration.
        iteration: the last iteration of the weights; None if it is not known, and then there are no
            metrics.
        averaged: whether the weights are the averages of `SOLVER.EMA`.
    """
    tests = tuple(cfg.DATASETS.TEST)
    row, is_last = _row(run / _METRICS, _rows_of(iteration, cfg))
    metrics = {}
    for key, value in row.items():
        dataset = next((f"{name}/" for name in tests if key.startswith(f"{name}/")), "")
        task, _, metric = key.removeprefix(dataset).partition("/")
        is_averaged = task.endswith("_ema")
        if task.removesuffix("_ema") in TASKS and is_averaged == averaged:
            prefix = f"{shown_dataset(dataset[:-1])}: " if dataset else ""
            metrics[f"{prefix}{task.removesuffix('_ema')}/{metric}"] = value
    return Scores(
        metrics,
        tuple(map(shown_dataset, tests)),
        count_images(tests),
        _max_detections(run / _RESULTS) if is_last and metrics else None,
    )


def count_images(names: tuple[str, ...]) -> int | None:
    """Return the number of images of datasets; None if they are not on this machine."""
    try:
        register_in_place(names)
        return sum(len(DatasetCatalog.get(name)) for name in names)
    # A dataset that is missing can raise any error of detectron2's own readers.
    except Exception:
        return None


def shown_dataset(name: str) -> str:
    """Return the name of a dataset without a path: of one in place, its file and its folder."""
    if ":" not in name:
        return name
    parts = [part.partition("?")[0] for part in name.split(":")[1:] if part]
    if not parts:
        return name
    # .../shapes/annotations/train.json is shapes/train.json.
    folders = [part for part in Path(parts[0]).parts if part != "annotations"]
    return "/".join(folders[-2:]).strip("/")


def _rows_of(iteration: int | None, cfg: CfgNode) -> set[int]:
    """Return the iterations under which metrics of weights are logged.

    The evaluation after the last iteration is logged as one more, also if the run was continued
    afterwards with a higher `SOLVER.MAX_ITER`.
    """
    if iteration is None:
        return set()
    period, one_more = cfg.TEST.EVAL_PERIOD, iteration + 1
    is_of_later_weights = period > 0 and (one_more + 1) % period == 0
    if is_of_later_weights and one_more != cfg.SOLVER.MAX_ITER:
        return {iteration}
    return {iteration, one_more}


def _row(path: Path, wanted: set[int]) -> tuple[dict[str, float], bool]:
    """Return the metrics that were measured at an iteration, and whether none were later."""
    if not wanted or not path.is_file():
        return {}, False
    row, is_last = {}, False
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            content = json.loads(line)
        except json.JSONDecodeError:  # the last line of a run that was killed
            continue
        if not any(
            "/" in key and key.split("/")[-2].removesuffix("_ema") in TASKS for key in content
        ):
            continue
        is_last = content.get("iteration") in wanted
        if is_last:
            row = {
                key: float(value)
                for key, value in content.items()
                if isinstance(value, int | float) and math.isfinite(value)
            }
    return row, is_last


def _max_detections(path: Path) -> int | None:
    """Return how many detections counted in the last evaluation of instances."""
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
        return most_per_image(Counter(result["image_id"] for result in results).values())
    except (OSError, json.JSONDecodeError, TypeError, KeyError):
        return None
