"""From a model to a folder that runs without detectron2, once it has been found to do the same."""

import json
import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import Metadata
from torch import Tensor

from ..errors import DataError, SoloFamilyError, first_line
from ..modeling.meta_arch import MaskSegmentor
from ..version import __version__
from .formats import FORMATS, ONNX_RUNTIME, OPSET, ExportGraph, GraphInput
from .parity import Forward, Summary, cases, output_error, prediction_error
from .quantize import METHODS as QUANTIZED
from .quantize import quantize
from .runtime import DESCRIPTION, LAYOUT, ExportedModel

# The greatest differences that are put down to rounding, of scores and probabilities; in float16
# of means over the instances. 8 bits are more than rounding, and what they cost depends on the
# pictures: `evaluate` measures it, and here outputs need only be finite and of the right size.
TOLERANCES = {"float32": 0.01, "float16": 0.1, "int8": 1.0}
# The short side of the images that models for any size are tried on, at most.
_CHECKED_SIDE = 256


@dataclass(frozen=True)
class Options:
    """What is written.

    Attributes:
        format: a name of `FORMATS`.
        size: (height, width) of every image; None for any.
        batch_size: of every run.
        half: network in float16; what follows it stays in float32.
        calibration: pictures with which convolutions are brought to 8 bits; none leaves them.
    """

    format: str = "onnx"
    size: tuple[int, int] | None = None
    batch_size: int = 1
    half: bool = False
    calibration: tuple[Path, ...] = ()

    @property
    def precision(self) -> str:
        if self.calibration:
            return "int8"
        return "float16" if self.half else "float32"


def export_model(
    model: MaskSegmentor, cfg: CfgNode, metadata: Metadata, folder: Path, options: Options
) -> dict[str, Any]:
    """Writes `folder`, and compares what is in it with the model.

    Args:
        model: on any device; is left as it is.
        cfg: that it was built from.
        metadata: names its classes.
        folder: is made; an exported model that it holds is replaced.
        options: what is written.

    Returns:
        The content of its `model.json`, with the differences under `max_error`.

    Raises:
        ConfigError: the model can't be exported as it is configured.
        DataError: the folder holds something else.
        SoloFamilyError: the outputs differ by more than rounding. There is then no folder.
    """
    model = deepcopy(model).cpu().eval()
    check_size(options.size, model.size_divisibility)
    _check_quantization(type(model).__name__, options)
    description = describe(model, cfg, metadata, options)
    with replacing_folder(folder) as temporary:
        graph = ExportGraph(half_precision(model) if options.half else model).eval()
        sizes = _checked_sizes(options.size, model.size_divisibility, cfg)
        threshold = description["thresholds"].get("score", 0.0)
        tried = cases(model.export_inputs, sizes, options.batch_size, threshold)
        given = GraphInput(next(iter(tried.values())), dynamic=options.size is None)
        with torch.no_grad():
            names = list(graph.model.export_forward(**given.tensors))
        description["outputs"] = names
        _, write = FORMATS[options.format]
        write(graph, given, names, temporary / description["file"])
        _write_description(temporary, description)
        if options.calibration:
            quantize(temporary, options.calibration)
        description["max_error"] = _errors(model, temporary, description, tried)
        _check(description["max_error"], TOLERANCES[options.precision])
        _write_description(temporary, description)
    return description


def describe(
    model: MaskSegmentor, cfg: CfgNode, metadata: Metadata, options: Options
) -> dict[str, Any]:
    """Returns what `model.json` says, but for the names of the outputs and the errors."""
    classes = list(metadata.get("thing_classes") or metadata.get("stuff_classes") or [])
    to_class = metadata.get("thing_dataset_id_to_contiguous_id", {})
    to_dataset = {index: category for category, index in to_class.items()}
    colors = {
        name: metadata.get(name)
        for name in ("thing_colors", "stuff_classes", "stuff_colors")
        if metadata.get(name)
    }
    return {
        "layout": LAYOUT,
        "solo_family": __version__,
        "method": type(model).__name__,
        "format": options.format,
        "file": FORMATS[options.format][0],
        "opset": OPSET,
        "onnxruntime": ONNX_RUNTIME,
        "precision": options.precision,
        "input": {
            "color": cfg.INPUT.FORMAT,
            "min_size": cfg.INPUT.MIN_SIZE_TEST,
            "max_size": cfg.INPUT.MAX_SIZE_TEST,
            "size": None if options.size is None else list(options.size),
            "divisibility": model.size_divisibility,
            "batch_size": options.batch_size,
            "pad_value": model.pixel_mean.flatten().tolist(),
        },
        **model.export_settings(),
        "classes": classes,
        "category_ids": [to_dataset.get(index, index) for index in range(len(classes))],
        "drawing": colors,
    }


def check_size(size: tuple[int, int] | None, divisibility: int) -> None:
    """Raises SoloFamilyError for a size that the network does not take."""
    if size is not None and any(side < 1 or side % divisibility for side in size):
        height, width = (max(1, -(-side // divisibility)) * divisibility for side in size)
        raise SoloFamilyError(
            f"--size is {size[0]} {size[1]}; this model takes multiples of {divisibility}, for "
            f"instance {height} {width}."
        )


def _check_quantization(method: str, options: Options) -> None:
    if not options.calibration:
        return
    if method not in QUANTIZED:
        raise SoloFamilyError(
            f"--quantize int8 is for {' and '.join(QUANTIZED)}; this model is {method}."
        )
    if options.format != "onnx" or options.half:
        raise SoloFamilyError("--quantize int8 goes with --format onnx, without --half.")


def half_precision(model: MaskSegmentor) -> MaskSegmentor:
    """Returns a copy with float16 weights; the pixels' mean and deviation stay as they are."""
    model = deepcopy(model)
    for child in model.children():
        child.half()
    return model


def _checked_sizes(size: tuple[int, int] | None, step: int, cfg: CfgNode) -> list[tuple[int, int]]:
    if size is not None:
        return [size]
    side = max(2, min(cfg.INPUT.MIN_SIZE_TEST or _CHECKED_SIDE, _CHECKED_SIDE) // step)
    return [(side * step, (side + 1) * step), ((side + 2) * step, side * step)]


def _errors(
    model: MaskSegmentor,
    folder: Path,
    description: dict[str, Any],
    tried: dict[str, dict[str, Tensor]],
) -> dict[str, float]:
    """Returns the difference in every case, and of results where all candidates were looked at."""
    forward = load_forward(folder, description)
    summary = max if description["precision"] == "float32" else fmean
    errors = {}
    for name, tensors in tried.items():
        with torch.no_grad():
            expected = model.export_forward(**tensors)
        try:
            actual = forward(tensors)
        except (RuntimeError, AssertionError) as error:  # of a program for other sizes
            raise SoloFamilyError(
                f"The exported model can't run {name} ({first_line(error)}); nothing was written. "
                "Export for one --size, or with --format onnx."
            ) from error
        errors[name] = output_error(expected, actual, summary)
    if description["format"] == "onnx":
        image = next(iter(tried.values()))["images"][0]  # it needs no padding
        results = result_error(model, ExportedModel(folder), image, summary)
        errors |= {} if math.isnan(results) else {"results": results}
    return errors


def result_error(
    model: MaskSegmentor, runtime: ExportedModel, image: Tensor, summary: Summary
) -> float:
    """Returns the difference between an exported model's results and the model's own.

    Args:
        model: that was exported.
        runtime: what it became.
        image: [3, H, W], whole numbers of 0 to 255.
        summary: see `output_error`.

    Returns:
        NaN where the exported model did not look at all candidates.
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
    """Returns what runs an exported file of any format."""
    names, path = description["outputs"], folder / description["file"]
    if description["format"] == "onnx":
        runtime = ExportedModel(folder)

        def forward(given: dict[str, Tensor]) -> dict[str, Tensor]:
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
        program = torch.export.load(path).module()

    def run(given: dict[str, Tensor]) -> dict[str, Tensor]:
        with torch.no_grad():
            return dict(zip(names, program(*given.values())))

    return run


def _check(errors: dict[str, float], tolerance: float) -> None:
    wrong = {name: error for name, error in errors.items() if not error <= tolerance}
    if wrong:
        found = ", ".join(f"{name}: {error:.3g}" for name, error in wrong.items())
        raise SoloFamilyError(
            f"The exported model differs from the model by more than {tolerance:g} ({found}); "
            "nothing was written. Try another --format, or leave --half or --quantize out."
        )


def _write_description(folder: Path, description: dict[str, Any]) -> None:
    (folder / DESCRIPTION).write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """Gives an empty folder beside `folder`, renamed to it at the end unless there was an error.

    Raises:
        DataError: `folder` is there, and neither empty nor an exported model; or can't be made.
    """
    exported = (folder / DESCRIPTION).is_file()
    if folder.exists() and not exported and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder} is there and is no exported model: name another folder.")
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
    except OSError as error:
        raise DataError(f"{folder}: can't make this folder ({error.strerror})") from error
    try:
        yield temporary
        if folder.exists():
            shutil.rmtree(folder)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
