"""Write a model as a folder that runs without detectron2."""

import argparse
from pathlib import Path

from tabulate import tabulate

from ..errors import ConfigError, SoloFamilyError
from ..export.formats import FORMATS
from ..predictor.load import class_metadata, load_predictor
from ..predictor.sources import read_cfg
from ..registry import METHODS
from .opts import CONFIG_HELP, add_opts_argument


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `export`."""
    parser.add_argument("--config-file", required=True, metavar="FILE", help=CONFIG_HELP)
    parser.add_argument(
        "--format", choices=FORMATS, default="onnx", help="format of the file (default: onnx)"
    )
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="folder to write")
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument(
        "--dynamic", action="store_true", help="accept images of any size (the default)"
    )
    sizes.add_argument(
        "--size",
        nargs=2,
        type=int,
        metavar=("H", "W"),
        help="accept one size, that of the network's padded input; images are resized to fit it",
    )
    batches = parser.add_mutually_exclusive_group()
    batches.add_argument(
        "--batch-size", type=int, default=1, metavar="B", help="images per run (default: 1)"
    )
    batches.add_argument(
        "--dynamic-batch", action="store_true", help="take any number of images per run"
    )
    parser.add_argument("--half", action="store_true", help="run the network in float16")
    parser.add_argument(
        "--quantize",
        choices=("int8",),
        help="quantise convolutions to 8 bits, for ONNX Runtime (SOLOv2, SparseInst); see "
        "--calibration",
    )
    parser.add_argument(
        "--calibration",
        type=Path,
        metavar="DIR",
        help="folder of pictures that the model was trained on; --quantize needs it",
    )
    add_opts_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Write the folder, print how far it differs from the model, and return the exit status.

    Raises:
        SoloFamilyError: a flag or a config key can't work, or the exported model differs.
    """
    try:
        from ..export.quantize import calibration_pictures
        from ..export.write import Options, export_model
    except ModuleNotFoundError as error:
        raise SoloFamilyError(
            f"export needs {error.name}: pip install 'solo-family[export]'"
        ) from error
    if args.batch_size < 1:
        raise SoloFamilyError(f"--batch-size is {args.batch_size}; at least 1 is needed.")
    if (args.quantize is None) != (args.calibration is None):
        raise SoloFamilyError("--quantize int8 and --calibration DIR go together.")
    cfg = read_cfg(args.config_file, args.opts)
    if cfg.MODEL.META_ARCHITECTURE not in METHODS:
        raise ConfigError(
            f"MODEL.META_ARCHITECTURE is {cfg.MODEL.META_ARCHITECTURE!r}; "
            f"only {', '.join(METHODS)} can be exported."
        )
    model = load_predictor(cfg, as_trained=True).model
    options = Options(
        format=args.format,
        size=None if args.size is None else (args.size[0], args.size[1]),
        batch_size=None if args.dynamic_batch else args.batch_size,
        half=args.half,
        calibration=tuple(calibration_pictures(args.calibration)) if args.quantize else (),
    )
    description = export_model(model, cfg, class_metadata(cfg), args.output, options)
    rows = [(name, f"{error:.2g}") for name, error in description["max_error"].items()]
    print(tabulate(rows, ("compared with the model", "greatest difference"), disable_numparse=True))
    if "instance_agreement" in description:
        share = description["instance_agreement"]
        print(f"agreement of the quantized model: {share:.1%} of the instances")
    files = [description[name] for name in ("file", "weights_file") if description.get(name)]
    size = sum((args.output / name).stat().st_size for name in files)
    print(f"{', '.join(files)}, {size / 2**20:.1f} MB, and model.json written to {args.output}")
    return 0
