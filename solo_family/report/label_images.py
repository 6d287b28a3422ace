"""Ground truth and predictions that give each pixel a class: semantic labels, panoptic segments.

H W of an image, K classes.
"""

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from pycocotools import mask as mask_util

from ..data.formats.label_maps import read_labels, read_panoptic_ids
from ..errors import DataError

Segment = dict[str, Any]


@dataclass(frozen=True)
class LabelImage:
    """An image's truth and prediction.

    Attributes:
        file_name: of the image.
        truth: int [H, W], the class of each pixel; K for none.
        predicted: likewise.
        truth_ids: int [H, W], segment ids; of semantic labels the classes, counted from 1.
        predicted_ids: likewise.
        truth_segments: `id` and `category_id` of each segment, and `iscrowd`.
        predicted_segments: likewise.
    """

    file_name: str
    truth: np.ndarray
    predicted: np.ndarray
    truth_ids: np.ndarray
    predicted_ids: np.ndarray
    truth_segments: list[Segment]
    predicted_segments: list[Segment]


def class_names_of(dataset: str) -> list[str]:
    """Return the names of a dataset's K classes."""
    return list(MetadataCatalog.get(dataset).stuff_classes)


def semantic_images(dataset: str, predictions: Path) -> Iterator[LabelImage]:
    """Yield the images of detectron2's sem_seg_predictions.json.

    Raises:
        DataError: the file is not of this dataset, or a label can't be read.
    """
    metadata, records = MetadataCatalog.get(dataset), _records(dataset)
    count = len(metadata.stuff_classes)
    places = metadata.get("stuff_dataset_id_to_contiguous_id")
    by_file: dict[str, list[Segment]] = defaultdict(list)
    for one in _read(predictions):
        by_file[one["file_name"]].append(one)
    for file_name, parts in by_file.items():
        record = _record(records, file_name, predictions)
        ignored = metadata.get("ignore_label", 255)
        truth = read_labels(record["sem_seg_file_name"], count, ignored)
        predicted = np.full_like(truth, count)
        for part in parts:
            category = part["category_id"]
            mask = mask_util.decode(part["segmentation"]) > 0
            predicted[mask] = category if places is None else places[category]
        yield LabelImage(
            file_name,
            truth,
            predicted,
            truth + 1,
            predicted + 1,
            _as_segments(truth, count),
            _as_segments(predicted, count),
        )


def panoptic_images(dataset: str, predictions: Path) -> Iterator[LabelImage]:
    """Yield the images of `PanopticEvaluator`'s panoptic_predictions.json.

    Raises:
        DataError: the file is not of this dataset, or a segment file can't be read.
    """
    records, count = _records(dataset), len(class_names_of(dataset))
    for one in _read(predictions):
        record = _record(records, one["file_name"], predictions)
        truth_ids = read_panoptic_ids(record["pan_seg_file_name"])
        predicted_ids = np.zeros_like(truth_ids)
        for segment in one["segments"]:
            predicted_ids[mask_util.decode(segment["segmentation"]) > 0] = segment["id"]
        yield LabelImage(
            one["file_name"],
            _classes(truth_ids, record["segments_info"], count),
            _classes(predicted_ids, one["segments"], count),
            truth_ids,
            predicted_ids,
            record["segments_info"],
            one["segments"],
        )


def _classes(ids: np.ndarray, segments: list[Segment], count: int) -> np.ndarray:
    """Return the class of each pixel; crowds, and ids that are not listed, have none."""
    labels = np.full_like(ids, count)
    for segment in segments:
        if not segment.get("iscrowd", 0):
            labels[ids == segment["id"]] = segment["category_id"]
    return labels


def _as_segments(labels: np.ndarray, count: int) -> list[Segment]:
    present = [label for label in np.unique(labels).tolist() if label < count]
    return [{"id": label + 1, "category_id": label} for label in present]


def _records(dataset: str) -> dict[str, dict[str, Any]]:
    return {record["file_name"]: record for record in DatasetCatalog.get(dataset)}


def _record(records: dict[str, dict[str, Any]], name: str, predictions: Path) -> dict[str, Any]:
    if name not in records:
        raise DataError(
            f"{predictions} has predictions of {name}, which is not in the dataset. Evaluate the "
            "run again (train_net.py --eval-only)."
        )
    return records[name]


def _read(path: Path) -> list[Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"The predictions {path} can't be read ({error}). Evaluate the run again "
            "(train_net.py --eval-only)."
        ) from error
