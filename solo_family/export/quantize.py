"""Quantise a model statically to 8 bits with ONNX Runtime, calibrated on typical pictures."""

import logging
import math
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from ..console import logging_from
from ..errors import DataError
from ..pictures.formats import SUFFIXES
from ..progress import Progress
from .masks import mask_iou
from .results import PredictedInstances
from .runtime import ExportedModel

# More images hardly change the ranges, and each costs a run of the network.
_LIMIT = 100
# The instances that `instance_agreement` compares with those of the float32 model.
_COMPARED_SCORE = 0.3
_SAME_IOU = 0.5


def calibration_pictures(folder: Path) -> list[Path]:
    """Return at most 100 pictures of a folder, spread evenly over it.

    Raises:
        DataError: the folder holds no pictures.
    """
    paths = []
    if folder.is_dir():
        paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise DataError(
            f"--calibration {folder} has no images. Name a folder with at least 50 images that the "
            "model was trained on."
        )
    step = max(1, -(-len(paths) // _LIMIT))
    return paths[::step]


def quantize(folder: Path, pictures: Sequence[Path]) -> float:
    """Replace the ONNX file of an exported folder by one with convolutions in 8 bits.

    Selection, NMS and mask decoding stay in float32, because they compare with thresholds.

    Args:
        folder: the folder that `export_model` is writing.
        pictures: paths of the pictures whose activations determine the ranges.

    Returns:
        The agreement with the float32 model; see `instance_agreement`.
    """
    model = ExportedModel(folder)
    path = folder / model.description["file"]
    prepared, quantized = folder / "prepared.onnx", folder / "quantized.onnx"
    try:
        # ONNX Runtime's warnings concern shapes, and it logs to the root.
        with logging_from(logging.ERROR):
            quant_pre_process(path, prepared, skip_symbolic_shape=True)
            quantize_static(
                prepared,
                quantized,
                _Pictures(model, pictures),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=["Conv"],
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
        shutil.move(quantized, path)
    finally:
        for left in (prepared, quantized):
            left.unlink(missing_ok=True)
    return instance_agreement(model, ExportedModel(folder), pictures)


def instance_agreement(
    reference: ExportedModel, model: ExportedModel, pictures: Sequence[Path]
) -> float:
    """Return the fraction of a reference model's instances that another model predicts, too.

    A model predicts an instance, too, if it predicts one of the same class whose mask has an IoU
    above 0.5 with it. Only instances with scores of at least 0.3 count, because small rounding
    errors decide whether weaker ones are predicted.

    Args:
        reference: the model whose instances are compared.
        model: the model to compare with it.
        pictures: paths of the images.

    Returns:
        0 to 1; NaN if the reference predicts no instances.
    """
    again: list[bool] = []
    for path in Progress(pictures, "comparison", leave=False):
        picture = model.read(path)
        expected, found = (_strided(one, picture) for one in (reference, model))
        compared = expected.scores >= _COMPARED_SCORE
        overlaps = mask_iou(expected.masks[compared], found.masks) > _SAME_IOU
        overlaps &= expected.classes[compared][:, None] == found.classes
        again.extend(np.asarray(overlaps.any(axis=1)).tolist())
    return float(np.mean(again)) if again else math.nan


def _strided(model: ExportedModel, picture: np.ndarray) -> PredictedInstances:
    """Return a model's instances, with masks at a quarter of the image's resolution for speed."""
    images, sizes = model.preprocess(picture)
    small = replace(sizes, output=(-(-sizes.image[0] // 4), -(-sizes.image[1] // 4)))
    found = model.postprocess(model.forward(images), small).instances
    assert found is not None
    return found


class _Pictures(CalibrationDataReader):
    def __init__(self, model: ExportedModel, pictures: Sequence[Path]) -> None:
        self._model = model
        self._pictures = iter(Progress(pictures, "calibration", leave=False))

    def get_next(self) -> dict[str, np.ndarray] | None:
        path = next(self._pictures, None)
        if path is None:
            return None
        images, _ = self._model.preprocess(self._model.read(path))
        return self._model.inputs(images)
