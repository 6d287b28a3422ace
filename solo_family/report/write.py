"""Write the report of a run's folder."""

import json
import logging
from collections.abc import Callable
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog

from ..data.formats.register import check_datasets
from ..errors import SoloFamilyError
from ..evaluation.build import kinds_of, predicted_tasks
from ..files import replacing
from . import report_path
from .curves import Series, draw_curves, evaluation_curves, read_metrics
from .evaluated import INFERENCE, evaluation_of
from .labels import PANOPTIC, SEMANTIC, report_panoptic, report_semantic
from .objects import RESULTS, report_objects
from .section import Section, plain
from .stored_threshold import store_threshold
from .weights import about_weights

logger = logging.getLogger(__name__)

_NUMBERS = "report.json"
_PICTURES = ("curves.png", "pr.png", "worst.jpg", "confusion.png", "confusion.csv", "classes.csv")
_PROPOSALS, _RECALL = "proposals", "proposal_recall"
# Datasets whose instances are evaluated with files of their own.
_OWN_FILES = ("lvis", "cityscapes_instance", "cityscapes_panoptic_seg")
_LABELS: dict[str, tuple[str, Callable[..., Section]]] = {
    "semantic": (SEMANTIC, report_semantic),
    "panoptic": (PANOPTIC, report_panoptic),
}


def write_report(cfg: CfgNode, run: Path, threshold: float | None = None) -> Path:
    """Write `report/` in a run's folder, and the best confidence threshold into its config.yaml.

    Args:
        cfg: the run's configuration.
        run: the folder, with metrics.json and, if there was an evaluation, `inference/`.
        threshold: a confidence threshold for the tables and pictures; None for the best.

    Returns:
        The path of report.md.

    Raises:
        SoloFamilyError: a dataset or the predictions can't be read. The report has the curves
            then.
    """
    path = report_path(run)
    folder = path.parent
    folder.mkdir(exist_ok=True)
    for name in _PICTURES:  # an earlier report may have had more parts
        for picture in folder.glob(f"*{name}"):
            picture.unlink()
    metrics = read_metrics(run / "metrics.json", cfg.SOLVER.MAX_ITER)
    text = [f"# {run.resolve().name}", _about(cfg, run, metrics)]
    if metrics:
        draw_curves(folder / "curves.png", metrics)
        text += ["## Curves", "![losses and metrics](curves.png)"]
    failure: SoloFamilyError | None = None
    try:
        section = _evaluated(cfg, run, folder, threshold)
    except SoloFamilyError as error:
        section, failure = Section([f"Of the predictions there is no report: {error}"]), error
    # Segments have scores of another kind, and a threshold is of both.
    if section.threshold is not None and "panoptic" not in predicted_tasks(cfg):
        stored = store_threshold(run / "config.yaml", section.threshold)
        section.text.insert(section.threshold_at, stored)
    with replacing(folder / _NUMBERS) as temporary:
        temporary.write_text(json.dumps(section.numbers, indent=1), encoding="utf-8")
    with replacing(path) as temporary:
        parts = [part for part in [*text, *section.text] if part]
        # Names of files need not be UTF-8.
        content = "\n\n".join(parts) + "\n"
        temporary.write_text(content, encoding="utf-8", errors="backslashreplace")
    if failure is not None:
        raise failure
    return path


def _about(cfg: CfgNode, run: Path, metrics: dict[str, Series]) -> str:
    """Return what was trained, and which weights were evaluated."""
    train = ", ".join(f"`{name}`" for name in cfg.DATASETS.TRAIN)
    text = f"{cfg.MODEL.META_ARCHITECTURE}, trained on {train or 'a dataset that is not named'}"
    if not cfg.DATASETS.TEST:
        return f"{text}, without a validation set (`DATASETS.TEST`): there are curves only."
    evaluations = evaluation_curves(metrics).values()
    last = max((series[0][-1] for series in evaluations), default=None)
    after = f" after iteration {last}" if last and evaluation_of(run) is None else ""
    text += f"; evaluated{after} on `{cfg.DATASETS.TEST[-1]}`."
    if len(cfg.DATASETS.TEST) > 1:
        text += " Of several datasets the predictions of the last one are kept."
    return f"{text} {about_weights(cfg, run, metrics)}"


def _evaluated(cfg: CfgNode, run: Path, folder: Path, threshold: float | None) -> Section:
    """Return what the report says about the predictions of the last evaluation."""
    whole = Section()
    if not cfg.DATASETS.TEST:
        return whole
    dataset, inference = cfg.DATASETS.TEST[-1], run / INFERENCE
    check_datasets([dataset])
    for kind in kinds_of(cfg, dataset):
        # Two parts have files of the same kind; proposals have none.
        prefix = f"{kind.task}_" if whole.numbers.keys() - {_PROPOSALS} else ""
        part = _part(cfg, kind.task, dataset, inference, folder, threshold, prefix)
        if part.threshold is not None:
            whole.threshold = part.threshold
            whole.threshold_at = len(whole.text) + part.threshold_at
        whole.text += part.text
        whole.numbers |= {kind.task: part.numbers} if prefix else part.numbers
    return whole


def _part(
    cfg: CfgNode,
    task: str,
    dataset: str,
    inference: Path,
    folder: Path,
    threshold: float | None,
    prefix: str,
) -> Section:
    kind = MetadataCatalog.get(dataset).get("evaluator_type")
    if task == _PROPOSALS:
        return _proposals(inference)
    if task == "instance" and kind in _OWN_FILES:
        return Section([f"The report has no part for the instances of {kind} datasets."])
    name = RESULTS if task == "instance" else _LABELS[task][0]
    if not (inference / name).is_file():
        raise SoloFamilyError(
            f"{inference / name} does not exist: the run was not evaluated, or by an earlier "
            f"version. Write it with train_net.py --config-file {inference.parent}/config.yaml "
            f"--eval-only MODEL.WEIGHTS {inference.parent}/model_final.pth"
        )
    if task == "instance":
        return report_objects(cfg, dataset, inference, folder, threshold)
    return _LABELS[task][1](cfg, dataset, inference, folder, prefix)


def _proposals(inference: Path) -> Section:
    """Return what the evaluation of proposals has written."""
    recall, picture = inference / f"{_RECALL}.json", inference / f"{_RECALL}.png"
    if not recall.is_file():
        return Section()
    curves = json.loads(recall.read_text(encoding="utf-8"))["recall"]
    figures = {f"AR@{limit}": 100 * sum(values) / len(values) for limit, values in curves.items()}
    text = ["## Proposals", ", ".join(f"**{name} {one:.1f}**" for name, one in figures.items())]
    if picture.is_file():
        text.append(f"![recall of proposals](../inference/{picture.name})")
    return Section(text, {_PROPOSALS: {name: plain(one) for name, one in figures.items()}})
