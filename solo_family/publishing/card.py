"""The model card of a published model: README.md with the HuggingFace Hub's front matter."""

import re
from dataclasses import dataclass, field
from typing import Any

from huggingface_hub import EvalResult, ModelCardData
from tabulate import tabulate

from ..checkpoint.origin import Origin, is_non_commercial
from ..registry import OWN_CODE, Method
from ..version import __version__
from .licences import IDENTIFIERS
from .scores import TASKS, Scores

PICTURE = "picture.jpg"
# Of each task the metrics that the front matter has, where there are values of them.
_MAIN = {
    "segm": ("AP", "AP50"),
    "panoptic_seg": ("PQ",),
    "sem_seg": ("mIoU",),
    "proposals": ("AR@100",),
}
_OWN_PACKAGE = "solo_family"
_PLACE = "OWNER/REPO"
# Metrics of one class are in the table of classes.
_PER_CLASS = {"segm": "AP-", "sem_seg": "IoU-"}


@dataclass(frozen=True)
class Card:
    """What a model card tells.

    Attributes:
        name: of the model.
        method: of the model.
        backbone: name of the backbone.
        tasks: what it predicts: "semantic", "panoptic", "instance", "proposals".
        parameters: number of trained and frozen parameters.
        classes: names, in the order of the outputs.
        ids: of the classes in the dataset; empty if they are not known.
        stuff: indices of the stuff classes.
        licence: that its maker gives it; "" if none was given.
        origin: the weights that training began with; None for random ones.
        scores: what the run measured.
        train: names of the training datasets.
        train_images: their number of images; None if it is not known.
        training: lines about the schedule.
        picture: what PICTURE shows; "" if there is none.
        repository: where it will be, OWNER/REPO; "" if it is not known.
    """

    name: str
    method: Method
    backbone: str
    tasks: tuple[str, ...]
    parameters: int
    classes: tuple[str, ...]
    ids: tuple[int, ...]
    stuff: tuple[int, ...]
    licence: str
    origin: Origin | None
    scores: Scores
    train: tuple[str, ...]
    train_images: int | None
    training: tuple[str, ...] = field(default=())
    picture: str = ""
    repository: str = ""

    @property
    def warning(self) -> str:
        """A sentence on a licence that forbids commercial use; "" if none is known to."""
        if self.origin is not None and self.origin.is_non_commercial:
            text = f"Not for commercial use: training began with {self.origin}."
            return (
                text
                if is_non_commercial(self.licence) or not self.licence
                else (f"{text} The licence {self.licence} of this model does not change that.")
            )
        return "Not for commercial use, by its licence." if is_non_commercial(self.licence) else ""


def write_card(card: Card) -> str:
    """Return README.md."""
    sections = [
        f"---\n{_front_matter(card)}\n---",
        f"# {card.name}",
        f"> **{card.warning}**" if card.warning else "",
        _summary(card),
        f"![{card.picture}]({PICTURE})\n\n*{card.picture}*" if card.picture else "",
        _use(card),
        _data(card),
        _metrics(card),
        _classes(card),
        _licences(card),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _front_matter(card: Card) -> str:
    identifier = card.licence.lower()
    known = identifier in IDENTIFIERS
    options: dict[str, Any] = {}
    if card.licence and not known:
        options["license_name"] = card.licence
    results = [
        EvalResult(
            task_type="image-segmentation",
            dataset_type=_identifier(dataset),
            dataset_name=dataset,
            metric_type=metric,
            metric_name=f"{TASKS[task]} {metric}",
            metric_value=round(card.scores.metrics[f"{task}/{metric}"], 2),
        )
        for task, metrics in _MAIN.items()
        for metric in metrics
        if f"{task}/{metric}" in card.scores.metrics
        for dataset in card.scores.datasets[:1]
    ]
    tasks = [f"{task}-segmentation" for task in card.tasks if task != "proposals"]
    data = ModelCardData(
        license=identifier if known else "other" if card.licence else None,
        library_name=_OWN_PACKAGE,
        pipeline_tag="image-segmentation",
        tags=[_OWN_PACKAGE, "detectron2", "image-segmentation", *tasks, _tag(card.method.title)],
        datasets=[_identifier(name) for name in card.train] or None,
        metrics=list(dict.fromkeys(result.metric_type for result in results)) or None,
        model_name=card.name if results else None,
        eval_results=results or None,
        **options,
    )
    return data.to_yaml()


def _identifier(dataset: str) -> str:
    """Return a dataset's name as the Hub's identifiers are, without an owner that it has not."""
    return re.sub(r"[^A-Za-z0-9]+", "-", dataset.removesuffix(".json")).strip("-")


def _tag(title: str) -> str:
    return re.sub(r"\W+", "-", title.lower())


def _summary(card: Card) -> str:
    what = ", ".join(card.tasks)
    return (
        f"{card.method.title} with the backbone {card.backbone}, for {what} segmentation: "
        f"{card.parameters:,} parameters, {len(card.classes) or 'unnamed'} classes. Made with "
        f"solo_family {__version__}, on detectron2."
    )


def _use(card: Card) -> str:
    name = card.repository or _PLACE
    return (
        "## Use\n\n```python\nfrom solo_family import Predictor\n\n"
        f'predict = Predictor("hf:{name}")    # or the folder of these files\n'
        'result = predict("photo.jpg")\n'
        f"{_results(card)}\n```\n\n"
        "On the command line: "
        f"`python -m solo_family demo --config-file hf:{name} --input photo.jpg --output out`."
        f"{_own_code(card.method)}"
    )


def _own_code(method: Method) -> str:
    """Return a paragraph on the code that a model needs besides this package's; "" for none."""
    model = method.model
    module = (model if isinstance(model, str) else model.__module__).split(".")[0].split(":")[0]
    if module == _OWN_PACKAGE:
        return ""
    return (
        f"\n\nThe model {method.meta_arch} is not part of solo_family: it needs the module "
        f"`{module}`. Import that before the model is loaded, or name it in the environment "
        f"variable `{OWN_CODE}`."
    )


def _results(card: Card) -> str:
    """Return the lines that read what the model predicts, and nothing else."""
    instances = "result.masks, result.boxes, result.scores, result.names"
    lines = {
        "panoptic": "segment_ids, segments = result.panoptic",
        "semantic": "result.semantic    # the class of every pixel",
        "instance": instances,
        "proposals": instances,
    }
    return "\n".join(dict.fromkeys(line for task, line in lines.items() if task in card.tasks))


def _data(card: Card) -> str:
    lines = [_dataset_line("Trained on", card.train, card.train_images)]
    lines += [f"- {line}" for line in card.training]
    return "## Training\n\n" + "\n".join(lines)


def _dataset_line(what: str, names: tuple[str, ...], images: int | None) -> str:
    count = "number of images not known" if images is None else f"{images:,} images"
    return f"- {what} {', '.join(names)} ({count})." if names else f"- {what}: not known."


def _metrics(card: Card) -> str:
    scores = card.scores
    if not scores.metrics:
        return "## Metrics\n\nThe run has no evaluation of these weights."
    rows = [
        (name, f"{value:.2f}")
        for name, value in scores.metrics.items()
        if not any(name.startswith(f"{task}/{part}") for task, part in _PER_CLASS.items())
        and not name.startswith("sem_seg/ACC-")
    ]
    lines = [_dataset_line("Measured on", scores.datasets, scores.images)]
    if any(
        name.partition(": ")[2].startswith("segm/") or name.startswith("segm/")
        for name in scores.metrics
    ):
        best = scores.max_detections
        lines.append(
            "- AP is of masks, as COCO defines it; "
            + (
                f"maxDets is {best}: the best {best} of each image and class count."
                if best
                else "maxDets is not known."
            )
        )
    return "\n".join(["## Metrics\n", *lines, "", _table(("metric", "value"), rows)])


def _classes(card: Card) -> str:
    if not card.classes:
        return "## Classes\n\nThe classes have no names."
    heads = ["label", "name"]
    rows: list[list[str]] = [[str(label), name] for label, name in enumerate(card.classes)]
    if len(card.ids) == len(rows):
        heads.append("id in the dataset")
        rows = [[*row, str(identity)] for row, identity in zip(rows, card.ids, strict=True)]
    if card.stuff:
        heads.append("is")
        rows = [[*row, "stuff" if i in card.stuff else "thing"] for i, row in enumerate(rows)]
    for task, part in _PER_CLASS.items():
        values = [card.scores.metrics.get(f"{task}/{part}{name}") for name in card.classes]
        if any(value is not None for value in values):
            heads.append(part[:-1])
            rows = [
                [*row, "" if value is None else f"{value:.2f}"]
                for row, value in zip(rows, values, strict=True)
            ]
    return f"## Classes\n\n{_table(heads, rows)}"


def _licences(card: Card) -> str:
    begun = "random weights" if card.origin is None else str(card.origin)
    return "\n".join(
        [
            "## Licences\n",
            f"- These weights: {card.licence or 'not named by their maker'}.",
            f"- The weights that training began with: {begun}.",
            "- The code (solo_family, detectron2): Apache-2.0.",
        ]
    )


def _table(heads: list[str] | tuple[str, ...], rows: list) -> str:
    cells = [[str(cell).replace("|", "\\|") for cell in row] for row in rows]
    return tabulate(cells, heads, tablefmt="github", disable_numparse=True)
