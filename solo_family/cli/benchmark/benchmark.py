"""Time a model part by part, on pictures or on noise of its test size; or time operators.

`benchmark_operators` times operators, `candidates` post-processing by the number of candidates.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from itertools import count, cycle, islice, product
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from torch import Tensor, nn

from ...data.loading.augmentation import detectron2_augmentation
from ...data.loading.images import Reading, read_image
from ...errors import DataError, SoloFamilyError
from ...predictor.load import load_predictor
from ...predictor.sources import read_cfg
from ...progress import Progress
from ..image_size import tested_size
from ..inputs import find_sources
from ..opts import CONFIG_HELP, add_opts_argument
from ..writers import make_folder, write_json
from .benchmark_operators import add_operator_arguments, run_operators
from .benchmark_report import AFTER, BEFORE, TOTAL, model_plot, summary, table
from .candidates import candidates_table
from .timing import peak_bytes

_PRECISIONS = {"float16": torch.float16, "bfloat16": torch.bfloat16}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `benchmark`."""
    parser.add_argument("--config-file", metavar="FILE", help=CONFIG_HELP)
    add_operator_arguments(parser)
    parser.add_argument(
        "--input",
        nargs="+",
        metavar="PATH",
        help="pictures, folders or quoted globs, which the runs go through in turn (default: "
        "noise, of 4:3, at the test size)",
    )
    parser.add_argument(
        "--candidates",
        nargs="+",
        type=int,
        default=[],
        metavar="N",
        help="time post-processing of these numbers of candidates instead (SOLO, DecoupledSOLO, "
        "SOLOv2)",
    )
    parser.add_argument("--repeats", type=int, default=20, help="timed runs (default: 20)")
    parser.add_argument(
        "--warm-up", type=int, default=3, help="untimed runs before them (default: 3)"
    )
    parser.add_argument(
        "--precision",
        nargs="+",
        choices=("float32", *_PRECISIONS),
        default=["float32"],
        help="precision of autocast (default: float32, which means none); several are timed one "
        "after another",
    )
    parser.add_argument(
        "--batch-sizes", nargs="+", type=int, default=[1], metavar="B", help="(default: 1)"
    )
    parser.add_argument(
        "--channels-last", action="store_true", help="store weights with channels last"
    )
    parser.add_argument(
        "--compile", action="store_true", help="apply torch.compile to every part of the network"
    )
    parser.add_argument(
        "--plot", type=Path, metavar="FILE", help="also draw the times of the parts to this file"
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="also write the numbers to this file"
    )
    add_opts_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Print the measurements, and return the exit status.

    Raises:
        SoloFamilyError: a flag, a config key or a file can't work.
    """
    _check_flags(args)
    for file in (args.json, args.plot):
        if file is not None:
            make_folder(file.parent)
    if args.op:
        report = run_operators(args)
    else:
        cfg = read_cfg(args.config_file, args.opts)
        images = _images(cfg, args.input)
        if args.compile or args.precision != ["float32"]:
            # torch.compile and autocast are alternatives to packed weights.
            cfg.MODEL.INFERENCE.OPTIMIZE = "off"
        model = load_predictor(cfg).model
        if args.candidates:
            print(f"{describe_run(model, images[:1])}, median of {args.repeats} runs")
            print(candidates_table(model, images[0], args.candidates, repeats=args.repeats))
            return 0
        report = _run_model(model, images, args)
    if args.json is not None:
        write_json(args.json, report)
    return 0


def _check_flags(args: argparse.Namespace) -> None:
    if args.repeats < 1 or args.warm_up < 0 or min(args.batch_sizes) < 1:
        raise SoloFamilyError(
            f"--repeats is {args.repeats}, --warm-up {args.warm_up} and --batch-sizes "
            f"{args.batch_sizes}; at least 1, 0 and 1 are needed."
        )
    if (args.config_file is None) == (args.op is None):
        raise SoloFamilyError(
            "Give --config-file FILE to time a model, or --op NAME to time an operator."
        )


def _run_model(
    model: nn.Module, images: Sequence[Tensor], args: argparse.Namespace
) -> dict[str, Any]:
    ways = ""
    if args.channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        ways = ", channels last"
    if args.compile:
        ways += ", compiled"
        for child in model.children():
            child.forward = torch.compile(child.forward)
    runs: list[dict[str, Any]] = []
    device = next(model.parameters()).device
    for precision, batch_size in product(args.precision, args.batch_sizes):
        dtype = _PRECISIONS.get(precision)
        with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
            timings = time_parts(
                model, images, repeats=args.repeats, warm_up=args.warm_up, batch_size=batch_size
            )
            batch = [{"image": image} for image in islice(cycle(images), batch_size)]
            peak = peak_bytes(torch.no_grad()(lambda: model(batch)), device)  # noqa: B023
        about = describe_run(model, images, precision, batch_size) + ways
        print(f"{about}, {args.repeats} runs\n{table(timings, batch_size)}")
        if peak is not None:
            print(f"peak memory beyond the model: {peak / 1e6:.0f} MB")
        figures = {"seconds": timings, "summary": summary(timings, batch_size), "peak_bytes": peak}
        runs.append({"run": about, **figures})
    if args.plot is not None:
        model_plot({run["run"]: run["seconds"] for run in runs}, args.plot)
    return {"runs": runs}


def time_parts(
    model: nn.Module,
    images: Sequence[Tensor],
    *,
    repeats: int,
    warm_up: int,
    batch_size: int = 1,
) -> dict[str, list[float]]:
    """Time the model's own modules (backbone, encoder, decoder, head, ...) with forward hooks.

    Args:
        model: the model, in evaluation mode; its first module to run is the backbone.
        images: [C, H, W] each, 0 to 255; every batch takes the next ones, and starts over after the
            last.
        repeats: timed runs.
        warm_up: untimed runs before them.
        batch_size: images in a batch.

    Returns:
        Seconds of each run, by part: all before the first module, the modules in the order in which
        they run, all outside the modules after that, and "total", their sum.
    """
    clock = _Clock(model)
    inputs = cycle({"image": image} for image in images)
    batches = (list(islice(inputs, batch_size)) for _ in count())
    try:
        for _ in Progress(range(warm_up), "warm-up", leave=False):
            clock.run(next(batches))
        runs = [clock.run(next(batches)) for _ in Progress(range(repeats), leave=False)]
    finally:
        clock.remove()
    return {part: [seconds[part] for seconds in runs] for part in runs[0]}


class _Clock:
    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._device = next(model.parameters()).device
        self._parts: dict[str, float] = {}
        self._started: dict[str, float] = {}
        self._first = 0.0
        self._handles = []
        for name, child in model.named_children():
            before, after = self._hooks(name)
            self._handles += [
                child.register_forward_pre_hook(before),
                child.register_forward_hook(after),
            ]

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()

    def _hooks(self, name: str) -> tuple[Callable[..., None], Callable[..., None]]:
        def before(*_: Any) -> None:
            self._started[name] = now = self._now()
            self._first = self._first or now

        def after(*_: Any) -> None:
            seconds = self._now() - self._started[name]
            self._parts[name] = self._parts.get(name, 0.0) + seconds

        return before, after

    def run(self, batch: list[dict[str, Tensor]]) -> dict[str, float]:
        self._parts, self._first = {}, 0.0
        start = self._now()
        with torch.no_grad():
            self._model(batch)
        total = self._now() - start
        before = self._first - start
        after = total - before - sum(self._parts.values())
        return {BEFORE: before, **self._parts, AFTER: after, TOTAL: total}

    def remove(self) -> None:
        for handle in self._handles:
            handle.remove()


def describe_run(
    model: nn.Module, images: Sequence[Tensor], precision: str = "float32", batch_size: int = 1
) -> str:
    """Describe what was timed, and on what."""
    device = next(model.parameters()).device
    name = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"{device.type}, {torch.get_num_threads()} threads"
    )
    sizes = {tuple(image.shape[-2:]) for image in images}
    height, width = (max(sides) for sides in zip(*sizes))
    size = f"{'' if len(sizes) == 1 else 'up to '}{height} x {width}"
    batch = "1 image" if batch_size == 1 else f"{batch_size} images"
    return f"{type(model).__name__}, {batch} of {size}, {precision}, {name}"


def _images(cfg: CfgNode, patterns: Sequence[str] | None) -> list[Tensor]:
    """Return pictures at the size of the test loader, or noise of that size."""
    if patterns is None:
        generator = torch.Generator().manual_seed(0)
        tested = tested_size(cfg, "Name pictures with --input.")
        size = (len(cfg.MODEL.PIXEL_MEAN), *tested)
        return [torch.randint(0, 256, size, dtype=torch.uint8, generator=generator)]
    sources, unmatched = find_sources(patterns)
    if unmatched:
        raise DataError(f"--input: no file matches {', '.join(unmatched)}.")
    (resize,) = detectron2_augmentation(cfg, is_train=False)
    images = []
    for source in sources:
        picture = read_image(str(source), cfg.INPUT.FORMAT, Reading.from_config(cfg))
        resized = resize.get_transform(picture).apply_image(picture)
        images.append(torch.from_numpy(resized.transpose(2, 0, 1).copy()))
    return images
