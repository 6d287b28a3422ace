"""Count a model's parameters, operations and activations, part by part."""

import argparse
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from detectron2.modeling import build_model
from tabulate import tabulate
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ..errors import ConfigError
from ..modeling.layers.deform_conv import DeformConv
from ..predictor.sources import read_cfg
from .image_size import tested_size
from .opts import CONFIG_HELP, add_opts_argument
from .writers import make_folder, write_json

# Layers whose outputs count as activations, as in fvcore.
_COUNTED = (nn.Conv2d, nn.Linear, DeformConv)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `analyze`."""
    parser.add_argument("--config-file", required=True, metavar="FILE", help=CONFIG_HELP)
    parser.add_argument(
        "--size",
        nargs=2,
        type=int,
        metavar=("H", "W"),
        help="height and width of the image (default: 4:3, at the test size)",
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="also write the numbers to this file"
    )
    add_opts_argument(parser)


@dataclass(frozen=True)
class Count:
    """What one part of a model costs for one image.

    Attributes:
        parameters: numbers that are trained or frozen, without buffers.
        trained: those that are trained.
        flops: operations of convolutions and matrix products; a multiplication and an addition
            count as two.
        activations: outputs of convolutions and linear layers.
    """

    parameters: int
    trained: int
    flops: int
    activations: int


def run(args: argparse.Namespace) -> int:
    """Print a table, and return the exit status.

    Raises:
        ConfigError: the config can't work.
    """
    # No weights are loaded: the counts don't depend on them, except through the number of
    # candidates that NMS sees.
    cfg = read_cfg(args.config_file, [*args.opts, "MODEL.WEIGHTS", ""])
    cfg.MODEL.TIMM.WEIGHTS = cfg.MODEL.VGG.WEIGHTS = ""
    if args.size and min(args.size) < 1:
        raise ConfigError(
            f"--size is {args.size[0]} {args.size[1]}; height and width are 1 pixel or more."
        )
    height, width = args.size or tested_size(cfg, "Give the size of an image with --size H W.")
    image = torch.zeros(len(cfg.MODEL.PIXEL_MEAN), height, width)
    counts = count_parts(build_model(cfg).eval(), image)
    rows = [
        (
            name,
            f"{c.parameters / 1e6:.2f}",
            f"{c.trained / 1e6:.2f}",
            f"{c.flops / 1e9:.2f}",
            f"{c.activations / 1e6:.2f}",
        )
        for name, c in counts.items()
    ]
    print(f"{cfg.MODEL.META_ARCHITECTURE}, one image of {height} x {width}")
    print(
        tabulate(
            rows,
            ("part", "parameters, M", "trained, M", "GFLOP", "activations, M"),
            colalign=("left", *["right"] * 4),
            disable_numparse=True,
        )
    )
    print(
        "A multiplication and an addition are two FLOP; only convolutions and matrix products "
        "are counted."
    )
    if args.json is not None:
        make_folder(args.json.parent)
        write_json(args.json, {name: vars(count) for name, count in counts.items()})
    return 0


def count_parts(model: nn.Module, image: Tensor) -> dict[str, Count]:
    """Count each direct part of a model, "other" for what is outside them, and "total".

    Args:
        model: the model, in evaluation mode.
        image: [C, H, W], 0 to 255.
    """
    activations: dict[str, int] = {}
    counter = FlopCounterMode(display=False, depth=1, custom_mapping=_FLOPS)
    with counter, torch.no_grad(), _counting_activations(model, activations):
        model([{"image": image}])
    flops = {
        name.partition(".")[2]: sum(of_operators.values())
        for name, of_operators in counter.get_flop_counts().items()
    }
    parts = {
        name: Count(*_parameters(child), flops.get(name, 0), activations.get(name, 0))
        for name, child in model.named_children()
    }
    total = Count(*_parameters(model), counter.get_total_flops(), sum(activations.values()))
    other = Count(
        *(
            getattr(total, field) - sum(getattr(part, field) for part in parts.values())
            for field in Count.__dataclass_fields__
        )
    )
    return {**parts, "other": other, "total": total}


def _parameters(module: nn.Module) -> tuple[int, int]:
    parameters = list(module.parameters())
    return (
        sum(parameter.numel() for parameter in parameters),
        sum(parameter.numel() for parameter in parameters if parameter.requires_grad),
    )


@contextmanager
def _counting_activations(model: nn.Module, counts: dict[str, int]) -> Iterator[None]:
    """Add the size of every counted layer's output to `counts`, by part of the model."""

    def hook(part: str) -> Any:
        def count(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            counts[part] = counts.get(part, 0) + output.numel()

        return count

    handles = [
        module.register_forward_hook(hook(name.partition(".")[0]))
        for name, module in model.named_modules()
        if isinstance(module, _COUNTED)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _deform_conv_flops(
    _input: Any, weight: torch.Size, *_rest: Any, out_shape: torch.Size, **_options: Any
) -> int:
    """Count as for a convolution, without the sampling at offsets."""
    return 2 * math.prod(out_shape) * math.prod(weight[1:])


_FLOPS = {torch.ops.torchvision.deform_conv2d: _deform_conv_flops}
