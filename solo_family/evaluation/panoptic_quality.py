"""Compute panoptic quality (Kirillov et al., arXiv 1801.00868, section 4) as panopticapi does.

K categories, H W of an image.
"""

import json
import logging
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from detectron2.utils.logger import create_small_table
from torch import Tensor

from ..data.formats.label_maps import check_size_in, read_panoptic_ids
from ..files import replacing
from ..ops.rle import encode_masks

logger = logging.getLogger(__name__)

_VOID = 0  # the id of pixels without a segment
Segment = dict[str, Any]


class PanopticQuality:
    """The sums over images that panoptic quality is computed from, for each of K categories.

    Args:
        num_categories: K.

    Attributes:
        iou: the sum of the IoU of matched segments, float64 [K].
        tp: the number of matched segments, int64 [K].
        fp: the number of predicted segments without a match, int64 [K].
        fn: the number of ground-truth segments without a match, int64 [K].
    """

    def __init__(self, num_categories: int) -> None:
        self.iou = np.zeros(num_categories)
        self.tp, self.fp, self.fn = np.zeros((3, num_categories), dtype=np.int64)

    def __iadd__(self, other: "PanopticQuality") -> "PanopticQuality":
        for name in ("iou", "tp", "fp", "fn"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        return self

    def add(
        self,
        truth: np.ndarray,
        truths: list[Segment],
        predicted: np.ndarray,
        predictions: list[Segment],
    ) -> None:
        """Add one image.

        A predicted and a ground-truth segment of the same category match if their IoU, without void
        pixels, is above one half; so each has at most one match. A predicted segment is ignored if
        more than half of it is void or in crowds of its category. Crowds are ignored, too.

        Args:
            truth: segment ids of the ground truth, int [H, W], 0 for none.
            truths: for each ground-truth segment `id`, `category_id` (0 to K - 1), and optionally
                `iscrowd`. Ids that are not listed are void.
            predicted: predicted segment ids, like `truth`.
            predictions: the predicted segments, like `truths`, without `iscrowd`.
        """
        truth = _listed(truth, truths)
        predicted = _listed(predicted, predictions)
        overlaps = _overlaps(truth, predicted)
        truth_area, predicted_area = _areas(truth), _areas(predicted)
        matched_truths, matched_predictions = set(), set()
        crowds = [segment for segment in truths if segment.get("iscrowd", 0)]
        objects = [segment for segment in truths if not segment.get("iscrowd", 0)]
        by_id = {segment["id"]: segment for segment in objects}
        categories = {segment["id"]: segment["category_id"] for segment in predictions}
        for (truth_id, predicted_id), overlap in overlaps.items():
            if truth_id not in by_id or predicted_id not in categories:
                continue
            category = by_id[truth_id]["category_id"]
            if category != categories[predicted_id]:
                continue
            void = overlaps.get((_VOID, predicted_id), 0)
            iou = overlap / (truth_area[truth_id] + predicted_area[predicted_id] - overlap - void)
            if iou > 0.5:
                self.tp[category] += 1
                self.iou[category] += iou
                matched_truths.add(truth_id)
                matched_predictions.add(predicted_id)
        for segment in objects:
            if segment["id"] not in matched_truths:
                self.fn[segment["category_id"]] += 1
        for predicted_id, category in categories.items():
            if predicted_id in matched_predictions or predicted_id not in predicted_area:
                continue
            excused = overlaps.get((_VOID, predicted_id), 0) + sum(
                overlaps.get((crowd["id"], predicted_id), 0)
                for crowd in crowds
                if crowd["category_id"] == category
            )
            if excused / predicted_area[predicted_id] <= 0.5:
                self.fp[category] += 1

    def metrics(self, categories: Sequence[int]) -> dict[str, float]:
        """Return PQ, SQ and RQ in percent, averaged over those categories that occur.

        Args:
            categories: indices of the categories to average over, 0 to K - 1.

        Returns:
            The three averages; 0 if no category occurs.
        """
        chosen = np.asarray(categories, dtype=np.int64)
        iou, tp, fp, fn = (x[chosen] for x in (self.iou, self.tp, self.fp, self.fn))
        occurs = tp + fp + fn > 0
        if not occurs.any():
            return {"PQ": 0.0, "SQ": 0.0, "RQ": 0.0}
        iou, tp, fp, fn = (x[occurs] for x in (iou, tp, fp, fn))
        size = tp + 0.5 * fp + 0.5 * fn
        means = {"PQ": iou / size, "SQ": iou / np.maximum(tp, 1), "RQ": tp / size}
        return {name: 100 * float(values.mean()) for name, values in means.items()}


def _listed(ids: np.ndarray, segments: list[Segment]) -> np.ndarray:
    return np.where(np.isin(ids, [segment["id"] for segment in segments]), ids, _VOID)


def _overlaps(truth: np.ndarray, predicted: np.ndarray) -> dict[tuple[int, int], int]:
    """Return the number of pixels that each pair of overlapping ids shares."""
    offset = int(predicted.max(initial=0)) + 1
    pairs, counts = np.unique(truth.astype(np.int64) * offset + predicted, return_counts=True)
    truth_ids, predicted_ids = np.divmod(pairs, offset)
    return dict(zip(zip(truth_ids.tolist(), predicted_ids.tolist()), counts.tolist()))


def _areas(ids: np.ndarray) -> dict[int, int]:
    values, counts = np.unique(ids, return_counts=True)
    return dict(zip(values.tolist(), counts.tolist()))


class PanopticEvaluator(DatasetEvaluator):
    """Compute PQ, SQ and RQ of all categories, of things and of stuff, without panopticapi.

    The metrics have the names of detectron2's `COCOPanopticEvaluator`.

    Args:
        name: the name of a dataset whose dicts have `pan_seg_file_name` and `segments_info`.
        output_dir: the folder for `panoptic_quality.json`, which has the metrics by category, and
            `panoptic_predictions.json`, which has the segments of each image as compressed RLE;
            None writes nothing.
    """

    def __init__(self, name: str, output_dir: str | None = None) -> None:
        self._output_dir = output_dir
        metadata = MetadataCatalog.get(name)
        self._names = list(metadata.stuff_classes)
        things = set(metadata.thing_dataset_id_to_contiguous_id.values())
        self._things = sorted(things)
        self._stuff = [index for index in range(len(self._names)) if index not in things]
        self._truth = {record["file_name"]: record for record in DatasetCatalog.get(name)}
        self.reset()

    def reset(self) -> None:
        """Forget all images."""
        self._quality = PanopticQuality(len(self._names))
        self._predictions: list[dict[str, Any]] = []

    def process(self, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> None:
        """Add the `panoptic_seg` of some images.

        Raises:
            DataError: the segments of an image can't be read, or have another size.
        """
        for item, output in zip(inputs, outputs):
            record = self._truth[item["file_name"]]
            truth = read_panoptic_ids(record["pan_seg_file_name"])
            check_size_in(item, truth, record["pan_seg_file_name"])
            predicted, segments = output["panoptic_seg"]
            self._quality.add(
                truth,
                record["segments_info"],
                predicted.cpu().numpy(),
                segments,
            )
            if self._output_dir is not None:
                entry = {"file_name": item["file_name"], "segments": _encoded(predicted, segments)}
                self._predictions.append(entry)

    def evaluate(self) -> dict[str, dict[str, float]] | None:
        """Return {"panoptic_seg": metrics in percent} in the main process, else None."""
        parts = comm.gather(self._quality)
        self._predictions = [one for part in comm.gather(self._predictions) for one in part]
        if not comm.is_main_process():
            return None
        total = PanopticQuality(len(self._names))
        for part in parts:
            total += part
        groups = {"": range(len(self._names)), "_th": self._things, "_st": self._stuff}
        result = {
            metric + suffix: value
            for suffix, group in groups.items()
            for metric, value in total.metrics(list(group)).items()
        }
        logger.info(f"Panoptic quality:\n{create_small_table(result)}")
        if self._output_dir is not None:
            self._write(total, result)
        return {"panoptic_seg": result}

    def _write(self, total: PanopticQuality, result: dict[str, float]) -> None:
        assert self._output_dir is not None
        os.makedirs(self._output_dir, exist_ok=True)
        by_category = {name: total.metrics([i]) for i, name in enumerate(self._names)}
        with replacing(os.path.join(self._output_dir, "panoptic_quality.json")) as path:
            text = json.dumps({**result, "categories": by_category}, indent=1)
            path.write_text(text, encoding="utf-8")
        with replacing(os.path.join(self._output_dir, "panoptic_predictions.json")) as path:
            path.write_text(json.dumps(self._predictions), encoding="utf-8")


def _encoded(ids: Tensor, segments: list[Segment]) -> list[Segment]:
    """Return the segments of an image, int [H, W], with their masks as compressed RLE."""
    numbers = ids.new_tensor([segment["id"] for segment in segments])
    rles = encode_masks(ids == numbers[:, None, None]) if segments else []
    return [
        {
            "id": int(segment["id"]),
            "category_id": int(segment["category_id"]),
            "segmentation": rle,
        }
        for segment, rle in zip(segments, rles)
    ]
