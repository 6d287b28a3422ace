"""Time a model part by part, on a picture or on noise of its test size."""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.data.transforms import ResizeShortestEdge
from tabulate import tabulate
from torch import Tensor, nn
from tqdm import tqdm

from ..config import setup_cfg
from ..data.images import read_image
from ..errors import SoloFamilyError
from .candidates import candidates_table
from .predictor import load_predictor
from .writers import make_folder, write_json

_PRECISIONS = {"float16": torch.float16, "bfloat16": torch.bfloat16}
_BEFORE, _AFTER = "preprocessing", "post-processing"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config-file", required=True, metavar="FILE", help="the model's config")
    parser.add_argument(
        "--input", metavar="PATH", help="a picture (default: noise, of 4:3, at the test size)"
    )
    parser.add_argument(
        "--candidates",
        nargs="+",
        type=int,
        default=[],
        metavar="N",
        help="time post-processing of so many candidates instead (SOLO, DecoupledSOLO, SOLOv2)",
    )
    parser.add_argument("--repeats", type=int, default=20, help="timed runs (default: 20)")
    parser.add_argument("--warm-up", type=int, default=3, help="runs before them (default: 3)")
    parser.add_argument(
        "--precision",
        choices=("float32", *_PRECISIONS),
        default="float32",
        help="of autocast (default: float32, without)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the numbers here")
    parser.add_argument(
        "--opts",
        nargs=argparse.REMAINDER,
        default=[],
        metavar="KEY VALUE",
        help="config keys to change; the last flag",
    )


def run(args: argparse.Namespace) -> int:
    """Prints each part's median time and its share, and returns the exit status.

    Raises:
        SoloFamilyError: a flag, a config key or a file can't work.
    """
    if args.repeats < 1 or args.warm_up < 0:
        raise SoloFamilyError(
            f"--repeats is {args.repeats} and --warm-up {args.warm_up}; "
            "at least 1 and 0 are needed."
        )
    if args.json is not None:
        make_folder(args.json.parent)
    cfg = setup_cfg(args.config_file, args.opts)
    image = _image(cfg, args.input)
    model = load_predictor(cfg).model
    if args.candidates:
        print(f"{describe_run(model, image, 'float32')}, median of {args.repeats} runs")
        print(candidates_table(model, image, args.candidates, repeats=args.repeats))
        return 0
    dtype = _PRECISIONS.get(args.precision)
    with torch.autocast(model.device.type, dtype=dtype, enabled=dtype is not None):
        timings = time_parts(model, image, repeats=args.repeats, warm_up=args.warm_up)
    medians = {part: statistics.median(seconds) for part, seconds in timings.items()}
    about = describe_run(model, image, args.precision)
    print(f"{about}, median of {args.repeats} runs\n{table(medians)}")
    if args.json is not None:
        write_json(args.json, {"run": about, "median_seconds": medians, "seconds": timings})
    return 0


def time_parts(
    model: nn.Module, image: Tensor, *, repeats: int, warm_up: int
) -> dict[str, list[float]]:
    """Times the model's own modules (backbone, encoder, decoder, head, ...) by forward hooks.

    Args:
        model: in evaluation mode; its first module to run is the backbone.
        image: [C, H, W], 0 to 255.
        repeats: timed runs.
        warm_up: runs before them.

    Returns:
        Seconds of each run, by part: what comes before the first module, the modules in the order
        they run in, what is outside all modules after that, and "total", their sum.
    """
    clock = _Clock(model)
    try:
        for _ in tqdm(range(warm_up), "warm-up", leave=False):
            clock.run([{"image": image}])
        runs = [clock.run([{"image": image}]) for _ in tqdm(range(repeats), leave=False)]
    finally:
        clock.remove()
    return {part: [seconds[part] for seconds in runs] for part in runs[0]}


class _Clock:
    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._on_gpu = next(model.parameters()).is_cuda
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
        if self._on_gpu:
            torch.cuda.synchronize()
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
        return {_BEFORE: before, **self._parts, _AFTER: after, "total": total}

    def remove(self) -> None:
        for handle in self._handles:
            handle.remove()


def table(medians: dict[str, float]) -> str:
    """Returns the parts' times in milliseconds and their shares; the last line has the FPS."""
    whole = sum(seconds for part, seconds in medians.items() if part != "total")
    rows = [
        (part, f"{1000 * seconds:.2f}", f"{100 * seconds / whole:.1f} %")
        for part, seconds in medians.items()
        if part != "total"
    ]
    total = medians["total"]
    rows.append(("total", f"{1000 * total:.2f}", f"{1 / total:.1f} images/s"))
    return tabulate(rows, ("part", "ms", "share"), disable_numparse=True)


def describe_run(model: nn.Module, image: Tensor, precision: str) -> str:
    """Says what was timed, and on what."""
    device = next(model.parameters()).device
    name = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"{device.type}, {torch.get_num_threads()} threads"
    )
    height, width = image.shape[-2:]
    return f"{type(model).__name__}, 1 image of {height} x {width}, {precision}, {name}"


def _image(cfg: CfgNode, path: str | None) -> Tensor:
    short, longest = cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST
    if path is None:
        generator = torch.Generator().manual_seed(0)
        size = (3, short, min(longest, short * 4 // 3))
        return torch.randint(0, 256, size, dtype=torch.uint8, generator=generator)
    picture = read_image(path, cfg.INPUT.FORMAT)
    resized = ResizeShortestEdge([short, short], longest).get_transform(picture)
    return torch.from_numpy(resized.apply_image(picture).transpose(2, 0, 1).copy())
