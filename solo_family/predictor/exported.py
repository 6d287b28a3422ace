"""Use an exported model in place of a detectron2 predictor."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from detectron2.data import Metadata
from detectron2.structures import Boxes, Instances

from ..config.output import DEFAULT_CONFIDENCE
from ..data.loading.images import MOST_PIXELS, Reading
from ..errors import SoloFamilyError
from ..pictures.formats import parse_format
from ..registry import METHODS
from .predictions import Predictions

if TYPE_CHECKING:
    from ..export.results import PredictedInstances
    from ..export.runtime import ExportedModel, Prediction

logger = logging.getLogger(__name__)

# The folders of the models of which this process has said that they left candidates out.
_told: set[Path] = set()


def open_exported(folder: Path, engine: str | None = None, threads: int = 0) -> "ExportedModel":
    """Return the model of an exported folder.

    Args:
        folder: the exported folder.
        engine: see `ExportedModel`; None for its default.
        threads: see `ExportedModel`.

    Raises:
        ConfigError: there is no such engine.
        DataError: the folder is not an exported model, or can't be run here.
        SoloFamilyError: a package that it needs is not installed.
    """
    try:
        from ..export.runtime import DEFAULT_ENGINE, ExportedModel
    except ModuleNotFoundError as error:
        raise SoloFamilyError(
            f"--exported needs {error.name}: pip install 'solo-family[export]'"
        ) from error
    return ExportedModel(folder, threads=threads, engine=engine or DEFAULT_ENGINE)


def exported_reading(description: dict[str, Any]) -> Reading:
    """Return how the model's images were read in training; earlier versions wrote less of it."""
    given = description["input"]
    value_range = given.get("range")
    return Reading(
        None if value_range is None else (value_range[0], value_range[1]),
        given.get("max_pixels") or MOST_PIXELS,
        parse_format(given["color"]).working.name,
        tuple(given.get("bands", ())),
    )


def exported_metadata(description: dict[str, Any]) -> Metadata:
    """Return what was exported of a model's classes: names, colours, ids, and which are stuff."""
    ids = description["category_ids"]
    return Metadata(
        **{"thing_classes": description["classes"], "stuff_classes": description["classes"]}
        | description["drawing"],
        thing_dataset_id_to_contiguous_id={category: index for index, category in enumerate(ids)},
        stuff_labels=list(description.get("results", {}).get("stuff_classes", ())),
    )


def exported_threshold(description: dict[str, Any]) -> float:
    """Return the lowest score to show, which earlier versions have not exported with a model."""
    return float(description.get("confidence_threshold", DEFAULT_CONFIDENCE))


def as_detectron2(prediction: "Prediction", model: "ExportedModel") -> Predictions:
    """Return a prediction of an exported model in the form of detectron2's models.

    Where the model has left candidates out, a warning says so, once for each model.
    """
    if prediction.truncated and model.folder not in _told:
        _told.add(model.folder)
        count = model.description["candidates"]
        prefix, _, _ = METHODS[model.description["method"]].num_classes_key.rpartition(".")
        logger.warning(
            f"{model.folder} has left candidates out: it considers the {count} best of a picture, "
            "and a picture has more, so that objects with low scores may be missing. If you need "
            f"them, export it again with --opts {prefix}.NMS_PRE {4 * count}."
        )
    result: Predictions = {}
    if prediction.instances is not None:
        result["instances"] = as_instances(prediction.instances)
    if prediction.sem_seg is not None:
        result["sem_seg"] = torch.from_numpy(prediction.sem_seg)
    if prediction.panoptic_seg is not None:
        segments, infos = prediction.panoptic_seg
        result["panoptic_seg"] = torch.from_numpy(segments), infos
    return result


def as_instances(found: "PredictedInstances") -> Instances:
    """Return instances with detectron2's four fields."""
    height, width = found.masks.shape[1:]
    return Instances(
        (height, width),
        pred_masks=torch.from_numpy(found.masks),
        pred_boxes=Boxes(torch.from_numpy(found.boxes)),
        scores=torch.from_numpy(found.scores),
        pred_classes=torch.from_numpy(found.classes),
    )
