"""Measure semantic segmentation: detectron2's metrics, ADE20K's final score, and PQ^St.

K classes.
"""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from detectron2.data import MetadataCatalog
from detectron2.evaluation import SemSegEvaluator, sem_seg_evaluation
from detectron2.utils import comm

from ..data.formats.label_maps import check_size_in, read_labels
from ..files import whole_files_of
from ..ops.label_maps import class_of_pixels
from .panoptic_quality import PanopticQuality

# detectron2 0.6 takes no function, and reads labels as they are in the file.
_TAKES_LOADER = "sem_seg_loading_fn" in inspect.signature(SemSegEvaluator.__init__).parameters
# Version 0.6 has no metrics of boundaries.
HAS_BOUNDARIES = bool(getattr(sem_seg_evaluation, "_CV2_IMPORTED", False))


class SemanticEvaluator(SemSegEvaluator):
    """detectron2's mIoU, fwIoU and accuracies, and two metrics on top of them.

    `final_score` is ADE20K's: the mean of pixel accuracy and mIoU. `PQ_st`, with `SQ_st` and
    `RQ_st`, is the panoptic quality of semantic segmentation, each class in an image being one
    segment (MaskFormer, arXiv 2107.06278, section 4.1).

    Args:
        dataset_name: the name of a dataset whose dicts have `sem_seg_file_name`. Labels are read
            with `read_labels`, so that 16-bit labels and invalid values are treated as in training.
        output_dir: the folder for the predictions; None writes nothing.
    """

    def __init__(self, dataset_name: str, output_dir: str | None = None) -> None:
        metadata = MetadataCatalog.get(dataset_name)
        num_classes = len(metadata.stuff_classes)
        self._load = _loader(num_classes, metadata.get("ignore_label", 255))
        options = {"sem_seg_loading_fn": self._load} if _TAKES_LOADER else {}
        super().__init__(dataset_name, output_dir=output_dir, **options)
        # The label that `read_labels` gives to pixels without a class.
        self._ignore_label = num_classes

    def reset(self) -> None:
        """Forget all images."""
        super().reset()
        self._quality = PanopticQuality(self._num_classes)

    def process(self, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> None:
        """Add the `sem_seg` of some images.

        Raises:
            DataError: the labels of an image can't be used, or have another size.
        """
        for item, output in zip(inputs, outputs):
            path = self.input_file_to_gt_file[item["file_name"]]
            truth = self._load(path)
            check_size_in(item, truth, path)
            predicted = class_of_pixels(output["sem_seg"]).cpu().numpy()
            if _TAKES_LOADER:
                super().process([item], [output])
            else:
                self._count(item["file_name"], predicted, truth)
            self._quality.add(*self._as_segments(truth), *self._as_segments(predicted))

    def _count(self, name: str, predicted: np.ndarray, truth: np.ndarray) -> None:
        """Do what `SemSegEvaluator.process` of detectron2 0.6 does, with these labels."""
        pairs = (self._num_classes + 1) * predicted.reshape(-1) + truth.reshape(-1)
        counts = np.bincount(pairs, minlength=self._conf_matrix.size)
        self._conf_matrix += counts.reshape(self._conf_matrix.shape)
        self._predictions.extend(self.encode_json_sem_seg(predicted, name))

    def _as_segments(self, labels: np.ndarray) -> tuple[np.ndarray, list[dict[str, Any]]]:
        """Return segment ids, which are the classes counted from 1, and their segments."""
        classes = [label for label in np.unique(labels).tolist() if label < self._num_classes]
        return labels + 1, [{"id": label + 1, "category_id": label} for label in classes]

    def evaluate(self) -> dict[str, dict[str, float]] | None:
        """Return {"sem_seg": metrics in percent} in the main process, else None."""
        parts = comm.gather(self._quality)
        with whole_files_of(sem_seg_evaluation):
            results = super().evaluate()
        if results is None:
            return None
        total = PanopticQuality(self._num_classes)
        for part in parts:
            total += part
        metrics = results["sem_seg"]
        if not _TAKES_LOADER:  # version 0.6 also divides by classes that are predicted alone
            metrics["mIoU"] = np.nanmean([metrics[f"IoU-{name}"] for name in self._class_names])
        metrics["final_score"] = (metrics["mIoU"] + metrics["pACC"]) / 2
        quality = total.metrics(range(self._num_classes))
        metrics.update({f"{name}_st": value for name, value in quality.items()})
        return results


def _loader(num_classes: int, ignore_label: int) -> Callable[..., np.ndarray]:
    return partial(_read, num_classes=num_classes, ignore_label=ignore_label)


def _read(path: str, dtype: Any = int, *, num_classes: int, ignore_label: int) -> np.ndarray:
    return read_labels(path, num_classes, ignore_label).astype(dtype)
