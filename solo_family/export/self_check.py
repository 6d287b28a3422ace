"""Run an exported model on a few images, and compare it with the model that it was made from."""

import math
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from torch import Tensor

from ..errors import SoloFamilyError, first_line
from ..modeling.base import MaskSegmentor
from .formats import quiet
from .parity import Forward, Summary, output_error, prediction_error
from .runtime import ExportedModel

# The greatest short side of the images that models for any size are tried on.
_CHECKED_SIDE = 256
# The lowest `instance_agreement` of a quantized model with the float32 model.
MIN_AGREEMENT = 0.7


def checked_sizes(size: tuple[int, int] | None, step: int, cfg: CfgNode) -> list[tuple[int, int]]:
    """Return the heights and widths of the images that an exported model is tried on.

    Args:
        size: the one that it accepts; None for any.
        step: number that all sides must be multiples of, in pixels.
        cfg: the configuration of the model.
    """
    if size is not None:
        return [size]
    side = max(2, min(cfg.INPUT.MIN_SIZE_TEST or _CHECKED_SIDE, _CHECKED_SIDE) // step)
    return [(side * step, (side + 1) * step), ((side + 2) * step, side * step)]


def measure_errors(
    model: MaskSegmentor,
    folder: Path,
    description: dict[str, Any],
    tried: dict[str, dict[str, Tensor]],
) -> dict[str, float]:
    """Return the differences by case, and those of results where all candidates were considered."""
    forward = load_forward(folder, description)
    summary = max if description["precision"] == "float32" else fmean
    errors = {}
    for name, tensors in tried.items():
        with torch.no_grad():
            expected = model.export_forward(**tensors)
        try:
            actual = forward(tensors)
        except Exception as error:  # what the engines raise has no common class
            raise SoloFamilyError(
                f"The exported model can't run {name} ({first_line(error)}); nothing was written. "
                "Export for one --size, or with --format onnx."
            ) from error
        errors[name] = output_error(expected, actual, summary)
    if description["format"] == "onnx":
        image = next(iter(tried.values()))["images"][0]  # this image needs no padding
        results = result_error(model, ExportedModel(folder), image, summary)
        errors |= {} if math.isnan(results) else {"results": results}
    return errors


def result_error(
    model: MaskSegmentor, runtime: ExportedModel, image: Tensor, summary: Summary
) -> float:
    """Return the difference between an exported model's results and the model's own.

    Args:
        model: the exported model's origin.
        runtime: the exported model.
        image: [C, H, W], integers from 0 to 255.
        summary: see `output_error`.

    Returns:
        The difference; NaN if the exported model did not consider all candidates.
    """
    picture = image.permute(1, 2, 0).numpy().astype(np.uint8)
    prediction = runtime(picture)
    if prediction.truncated:
        return math.nan
    resized = torch.from_numpy(runtime.resize(picture)).permute(2, 0, 1)
    given = {"image": resized, "height": picture.shape[0], "width": picture.shape[1]}
    with torch.no_grad():
        return prediction_error(model([given])[0], prediction, summary)


def load_forward(folder: Path, description: dict[str, Any]) -> Forward:
    """Return a function that runs an exported file of any format."""
    names, path = description["outputs"], folder / description["file"]
    if description["format"] == "onnx":
        runtime = ExportedModel(folder)

        def forward(given: dict[str, Tensor]) -> dict[str, Tensor]:
            """Run ONNX Runtime on numpy arrays."""
            if "score_threshold" in given:
                runtime.thresholds["score"] = float(given["score_threshold"])
            sizes = given.get("image_sizes")
            outputs = runtime.forward(
                given["images"].numpy(), None if sizes is None else sizes.numpy()
            )
            return {name: torch.from_numpy(value) for name, value in outputs.items()}

        return forward
    if description["format"] == "torchscript":
        program: Any = torch.jit.load(str(path))
    else:
        with quiet():
            program = torch.export.load(path).module()

    def run(given: dict[str, Tensor]) -> dict[str, Tensor]:
        """Run the program with positional arguments."""
        with torch.no_grad():
            return dict(zip(names, program(*given.values())))

    return run


def check_errors(errors: dict[str, float], tolerance: float) -> None:
    """Compare every difference with the tolerance.

    Raises:
        SoloFamilyError: one is above it.
    """
    wrong = {name: error for name, error in errors.items() if not error <= tolerance}
    if wrong:
        found = ", ".join(f"{name}: {error:.3g}" for name, error in wrong.items())
        raise SoloFamilyError(
            f"The exported model differs from the model by more than {tolerance:g} ({found}); "
            "nothing was written. Try another --format, or remove --half or --quantize."
        )


def check_agreement(share: float) -> None:
    """Check that a quantized model predicts nearly the same instances as the float32 model.

    Args:
        share: result of `instance_agreement`.

    Raises:
        SoloFamilyError: the share is below `MIN_AGREEMENT`, or is NaN.
    """
    if math.isnan(share):
        raise SoloFamilyError(
            "--calibration: the model predicts no instances in these images, so the quantized "
            "model can't be checked; nothing was written. Name images like those that it was "
            "trained on."
        )
    if share < MIN_AGREEMENT:
        raise SoloFamilyError(
            f"The quantized model predicts {share:.0%} of the float32 model's instances in the "
            f"calibration images, but at least {MIN_AGREEMENT:.0%} are needed; nothing was "
            "written. Name more images, or remove --quantize."
        )
