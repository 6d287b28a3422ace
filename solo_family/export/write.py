"""Export a model to a folder that runs without detectron2, and check that it computes the same."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.data import Metadata

from ..config.output import confidence_threshold
from ..errors import DataError, SoloFamilyError, first_line
from ..modeling.base import MaskSegmentor
from ..registry import METHODS
from ..version import __version__
from .folder import DESCRIPTION, LAYOUT
from .formats import FORMATS, ONNX_RUNTIME, OPSET, ExportGraph, GraphInput
from .onnx_file import describe_onnx
from .parity import cases
from .quantize import quantize
from .self_check import check_agreement, check_errors, checked_sizes, measure_errors

# The greatest differences in scores and probabilities that rounding explains; in float16, of means
# over the instances. 8 bits cause more than rounding: their outputs need only be finite and of the
# right size, and the instances of the calibration pictures must be predicted again.
TOLERANCES = {"float32": 0.01, "float16": 0.1, "int8": 1.0}


@dataclass(frozen=True)
class Options:
    """What to write.

    Attributes:
        format: a name of `FORMATS`.
        size: (height, width) of every image; None for any.
        batch_size: images per run; None for any number.
        half: run the network in float16; what follows it stays in float32.
        calibration: pictures for quantising convolutions to 8 bits; if there are none, nothing is
            quantised.
    """

    format: str = "onnx"
    size: tuple[int, int] | None = None
    batch_size: int | None = 1
    half: bool = False
    calibration: tuple[Path, ...] = ()

    @property
    def precision(self) -> str:
        """The name of the precision in `model.json`."""
        if self.calibration:
            return "int8"
        return "float16" if self.half else "float32"


def export_model(
    model: MaskSegmentor, cfg: CfgNode, metadata: Metadata, folder: Path, options: Options
) -> dict[str, Any]:
    """Write `folder`, and compare its content with the model.

    Args:
        model: the model, on any device; it is not changed.
        cfg: the configuration that it was built from.
        metadata: has the names of its classes.
        folder: is created; an exported model in it is replaced.
        options: what to write.

    Returns:
        The content of its `model.json`, with the differences under `max_error` and, for a quantized
        model, `instance_agreement`: see `quantize.instance_agreement`.

    Raises:
        ConfigError: the model can't be exported as it is configured.
        DataError: the folder has other files.
        SoloFamilyError: the format can't be written, the outputs differ by more than rounding, or 8
            bits lose too many objects. No folder is then written.
    """
    model = deepcopy(model).cpu().eval()
    _check_options(model, options)
    if options.size is not None and hasattr(model, "test_scales"):
        # A graph of one size runs at one scale.
        model.test_scales = ()  # type: ignore[assignment]
    description = describe(model, cfg, metadata, options)
    with replacing_folder(folder) as temporary:
        graph = ExportGraph(half_precision(model) if options.half else model).eval()
        sizes = checked_sizes(options.size, model.size_divisibility, cfg)
        threshold = description["thresholds"].get("score", 0.0)
        tried = cases(
            model.export_inputs, sizes, options.batch_size, threshold, len(model.pixel_mean)
        )
        given = GraphInput(
            next(iter(tried.values())),
            dynamic=options.size is None,
            dynamic_batch=options.batch_size is None,
        )
        with torch.no_grad():
            names = list(graph.model.export_forward(**given.tensors))
        description["outputs"] = names
        _, write = FORMATS[options.format]
        try:
            write(graph, given, names, temporary / description["file"])
        except RuntimeError as error:  # raised by all of torch's exporters
            raise SoloFamilyError(
                f"--format {options.format} can't write this model ({first_line(error)}); nothing "
                "was written. Export for one --size, or with another --format."
            ) from error
        if options.format == "onnx":
            description |= describe_onnx(temporary / description["file"])
        _write_description(temporary, description)
        if options.calibration:
            _quantize(temporary, description, options)
        description["max_error"] = measure_errors(model, temporary, description, tried)
        check_errors(description["max_error"], TOLERANCES[options.precision])
        _write_description(temporary, description)
    return description


def _check_options(model: MaskSegmentor, options: Options) -> None:
    check_size(options.size, model.size_divisibility)
    if options.size is None and options.format in model.one_size_formats:
        raise SoloFamilyError(
            f"--format {options.format}: of this model, whose grids follow the image, such a graph "
            "takes images of one size only. Give that size with --size HEIGHT WIDTH, or export "
            "with --format onnx or torchscript."
        )
    if options.batch_size is None and options.format == "torch_export":
        raise SoloFamilyError(
            "--dynamic-batch goes with --format onnx or torchscript; for torch_export, give "
            "--batch-size B."
        )
    _check_quantization(type(model).__name__, options)


def describe(
    model: MaskSegmentor, cfg: CfgNode, metadata: Metadata, options: Options
) -> dict[str, Any]:
    """Return the content of `model.json` but for the names of the outputs and the errors."""
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
            # Of files deeper than 8 bits, for what reads them; see `INPUT.RANGE`.
            "range": None if cfg.INPUT.RANGE in (None, "auto") else list(cfg.INPUT.RANGE),
            "max_pixels": cfg.INPUT.MAX_PIXELS,
            "bands": list(cfg.INPUT.BANDS),  # what pictures of results show
            "resize": cfg.INPUT.RESIZE,
            "min_size": cfg.INPUT.MIN_SIZE_TEST,
            "max_size": cfg.INPUT.MAX_SIZE_TEST,
            "size": None if options.size is None else list(options.size),
            "divisibility": model.size_divisibility,
            "batch_size": options.batch_size,
            "pad_value": model.pixel_mean.flatten().tolist(),
        },
        **model.export_settings(),
        "classes": classes,
        # The lowest score to show; not one of the thresholds that results are computed with.
        "confidence_threshold": confidence_threshold(cfg),
        "category_ids": [to_dataset.get(index, index) for index in range(len(classes))],
        "drawing": colors,
    }


def check_size(size: tuple[int, int] | None, divisibility: int) -> None:
    """Refuse a size that the network does not accept.

    Raises:
        SoloFamilyError: a side is not a multiple of `divisibility`.
    """
    if size is not None and any(side < 1 or side % divisibility for side in size):
        height, width = (max(1, -(-side // divisibility)) * divisibility for side in size)
        raise SoloFamilyError(
            f"--size is {size[0]} {size[1]}; this model takes multiples of {divisibility}, for "
            f"instance {height} {width}."
        )


def _check_quantization(method: str, options: Options) -> None:
    if not options.calibration:
        return
    quantized = [name for name, entry in METHODS.items() if entry.quantizes]
    if method not in quantized:
        raise SoloFamilyError(
            f"--quantize int8 is for {' and '.join(quantized)}; this model is {method}."
        )
    if options.format != "onnx" or options.half:
        raise SoloFamilyError("--quantize int8 goes with --format onnx, without --half.")


def half_precision(model: MaskSegmentor) -> MaskSegmentor:
    """Return a copy with float16 weights; mean and deviation of the pixels stay in float32."""
    model = deepcopy(model)
    for child in model.children():
        child.half()
    return model


def _quantize(folder: Path, description: dict[str, Any], options: Options) -> None:
    if description["weights_file"] is not None:
        raise SoloFamilyError("--quantize int8 is for models below 2 GB: leave it out.")
    description["instance_agreement"] = quantize(folder, options.calibration)
    check_agreement(description["instance_agreement"])
    description |= describe_onnx(folder / description["file"])


def _write_description(folder: Path, description: dict[str, Any]) -> None:
    (folder / DESCRIPTION).write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty folder beside `folder`, and rename it to that at the end.

    After an error nothing is renamed, and the new folder is removed.

    Raises:
        DataError: `folder` exists, and is neither empty nor an exported model; or it can't be
            created.
    """
    exported = (folder / DESCRIPTION).is_file()
    if folder.exists() and not exported and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder} exists and is not an exported model. Name another folder.")
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
