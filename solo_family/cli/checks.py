"""Check what is installed on a machine, what a missing part disables, and how to fix it."""

import importlib
import importlib.metadata
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import torch
from detectron2.modeling import build_model

from ..config import setup_cfg
from ..errors import first_line
from ..model_zoo import get_config_file
from ..ops import gpu_kernels
from ..registry import METHODS
from ..version import __version__
from .machine import machine_findings

GOOD, LACKING, BROKEN = "ok", "lacking", "BROKEN"

# Distributions, the modules to import, and the remedy if one is damaged or missing.
_NEEDED = {
    "torchvision": (
        "torchvision",
        "install the torchvision that matches torch's build and version",
    ),
    "timm": ("timm", "pip install timm"),
    "numpy": ("numpy", "pip install numpy"),
    "scipy": ("scipy", "pip install scipy"),
    "fvcore": ("fvcore", "pip install fvcore"),
    "pycocotools": ("pycocotools", "pip install pycocotools"),
    "hotcoco": ("hotcoco", "pip install hotcoco; without it COCO's AP takes many times longer"),
    "shapely": ("shapely", "pip install shapely"),
}
# What each optional package adds.
_OPTIONAL = {
    "onnx": ("onnx", "no export to ONNX", "export"),
    "onnxruntime": ("onnxruntime", "exported models don't run", "export"),
    "lvis": ("lvis", "no evaluation on LVIS", "lvis"),
    "cityscapesScripts": ("cityscapesscripts", "no evaluation on Cityscapes", "cityscapes"),
}


@dataclass(frozen=True)
class Check:
    """The outcome of one check.

    Attributes:
        name: what was checked.
        status: GOOD; LACKING, without which the rest works; or BROKEN.
        found: what is installed, or what is wrong.
        remedy: what its absence disables, and how to fix it; "" if the status is GOOD.
    """

    name: str
    status: str
    found: str
    remedy: str = ""


def all_checks(folder: Path) -> Iterator[Check]:
    """Run every check, one after the other.

    Args:
        folder: the folder that runs would write to.

    Yields:
        The outcome of each check.
    """
    yield Check("solo_family", GOOD, f"{__version__}, {Path(__file__).parents[1]}")
    yield Check("Python", GOOD, f"{platform.python_version()}, {sys.executable}")
    yield Check("torch", GOOD, torch.__version__)
    for name, (module, remedy) in _NEEDED.items():
        yield _library(name, module, BROKEN, remedy)
    yield _opencv()
    yield _detectron2()
    yield _cuda()
    yield _triton()
    yield from _kernels()
    yield _torchvision_operators()
    for name, (module, lack, extra) in _OPTIONAL.items():
        yield _library(name, module, LACKING, f"{lack}: pip install 'solo-family[{extra}]'")
    yield _write_access(folder)
    for name, found, lack in machine_findings(_existing(folder)):
        yield Check(name, LACKING if lack else GOOD, found, lack)
    for name, method in METHODS.items():
        if not method.parent:
            yield _forward(name)


def _library(name: str, module: str, otherwise: str, remedy: str) -> Check:
    try:
        importlib.import_module(module)
        return Check(name, GOOD, importlib.metadata.version(name))
    except Exception as error:  # a broken build can raise anything
        return Check(name, otherwise, first_line(error), remedy)


def _opencv() -> Check:
    import cv2

    return Check("OpenCV", GOOD, cv2.__version__)


def _detectron2() -> Check:
    import detectron2

    place = f"{detectron2.__version__}, {Path(detectron2.__file__).parent}"
    try:
        importlib.import_module("detectron2._C")
    except ImportError:
        return Check(
            "detectron2",
            GOOD,
            f"{place}; without its compiled part",
            "detectron2's own DeformConv, ROIAlignRotated and C++ COCO evaluation are missing; "
            "nothing here needs them",
        )
    return Check("detectron2", GOOD, place)


def _cuda() -> Check:
    if torch.cuda.is_available():
        devices = range(torch.cuda.device_count())
        return Check("CUDA", GOOD, ", ".join(map(torch.cuda.get_device_name, devices)))
    if torch.version.cuda is None:
        return Check(
            "CUDA",
            LACKING,
            "torch is a CPU build",
            "everything runs on the CPU: for a GPU install a CUDA build of torch and of "
            "torchvision",
        )
    return Check(
        "CUDA",
        LACKING,
        f"torch is built for CUDA {torch.version.cuda}, but sees no GPU",
        "everything runs on the CPU: for a GPU check nvidia-smi, the driver and "
        "CUDA_VISIBLE_DEVICES",
    )


def _triton() -> Check:
    lack = "pip install triton; without it NMS on a GPU runs in torch, which is slower"
    status = LACKING if torch.cuda.is_available() else GOOD
    check = _library("triton", "triton", status, lack)
    if torch.cuda.is_available():
        return check
    return Check("triton", GOOD, f"{check.found}; used on a GPU only")


def _kernels() -> Iterator[Check]:
    """Launch each kernel on each GPU, and report which implementation operators use there."""
    name = gpu_kernels.VARIABLE
    try:
        choice = gpu_kernels.chosen()
    except ValueError as error:
        yield Check(name, BROKEN, first_line(error), f"unset {name}")
        return
    yield Check(name, GOOD, choice if os.environ.get(name) else f"{choice}, since it is not set")
    devices = [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
    for kernel, device in product(
        (*gpu_kernels.TRITON, *gpu_kernels.CUDA), devices or [torch.device("cpu")]
    ):
        yield _kernel(kernel, device, choice)


def _kernel(kernel: str, device: torch.device, choice: str) -> Check:
    name = f"kernel {kernel} on {device}"
    if choice == "torch":
        return Check(
            name, GOOD, f"not used, since {gpu_kernels.VARIABLE} is torch: torch's own operators"
        )
    if device.type == "cpu":
        return Check(name, GOOD, "not used on this CPU: torch's own operators")
    if choice == "triton" and kernel not in gpu_kernels.TRITON:
        return Check(name, GOOD, f"not used, since {gpu_kernels.VARIABLE} is triton")
    try:
        why = gpu_kernels.failure(kernel, device)
    except torch.cuda.OutOfMemoryError as error:
        return Check(
            name,
            LACKING,
            first_line(error),
            "other processes that use the GPU take the memory it needs",
        )
    if why is None:
        return Check(name, GOOD, "used: compiled, launched, and equal to torch's result")
    if choice == "triton":
        return Check(name, BROKEN, f"used, since {gpu_kernels.VARIABLE} is triton, and fails", why)
    return Check(name, LACKING, "not used: torch's own operators, which are slower", why)


def _torchvision_operators() -> Check:
    """Detect a torchvision of another build than torch's, whose operators are not registered."""
    name = "torchvision's operators"
    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        from torchvision.ops import deform_conv2d, nms

        nms(torch.tensor([[0.0, 0, 1, 1]], device=device), torch.ones(1, device=device), 0.5)
        x = torch.ones(1, 1, 3, 3, device=device)
        deform_conv2d(x, x.new_zeros(1, 18, 1, 1), x.new_ones(1, 1, 3, 3))
    except Exception as error:
        return Check(
            name, BROKEN, first_line(error), "install the torchvision that matches torch's build"
        )
    return Check(name, GOOD, f"NMS and deformable convolution work on {device}")


def _existing(folder: Path) -> Path:
    """Return the folder, or its nearest parent that exists."""
    return next(place for place in (folder, *folder.resolve().parents) if place.exists())


def _write_access(folder: Path) -> Check:
    name = f"writing to {folder}"
    try:
        with tempfile.NamedTemporaryFile(dir=_existing(folder)) as file:
            file.write(b"0")
            file.flush()
    except OSError as error:
        return Check(name, BROKEN, first_line(error), "set OUTPUT_DIR to a folder that you own")
    return Check(name, GOOD, "allowed")


def _forward(method: str) -> Check:
    """Run a method once on noise, at its quick-start size, with random weights."""
    key = METHODS[method].num_classes_key
    opts = [key, "5", "MODEL.TIMM.WEIGHTS", "", "INPUT.MIN_SIZE_TEST", "192"]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    config = get_config_file(METHODS[method].quickstart_config)
    try:
        start = time.perf_counter()
        cfg = setup_cfg(config, [*opts, "MODEL.DEVICE", device])
        model = build_model(cfg).eval()
        image = torch.randint(0, 256, (3, 192, 256), dtype=torch.uint8)
        with torch.no_grad():
            model([{"image": image, "height": 192, "width": 256}])
        seconds = time.perf_counter() - start
    except Exception as error:  # any error is a finding of this check
        found = f"{type(error).__name__}: {first_line(error)}"
        return Check(
            method, BROKEN, found, f"see all of it: solo-family benchmark --config-file {config}"
        )
    return Check(method, GOOD, f"built, and ran on {device}, in {seconds:.1f} s")
