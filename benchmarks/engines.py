"""CPU seconds of exported models in ONNX Runtime and in OpenVINO: python -m benchmarks.engines.

A ResNet-50 model of each method with random weights is exported for one size. The engines take
turns on the same image with one thread each; a row has the medians of the CPU seconds of the graph
alone. The graphs do the same work whatever the weights and the image are.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import torch
from detectron2.data import Metadata
from detectron2.modeling import build_model
from tabulate import tabulate

from solo_family import model_zoo
from solo_family.errors import SoloFamilyError
from solo_family.export.engines import ENGINES
from solo_family.export.parity import random_images
from solo_family.export.runtime import ExportedModel
from solo_family.export.write import Options, export_model

from .side_by_side import Run

MODELS = {
    "SOLO": "SOLO/solo_R50_3x.yaml",
    "DecoupledSOLO": "DecoupledSOLO/decoupled_solo_R50_3x.yaml",
    "SOLOv2": "SOLOv2/solov2_R50_3x.yaml",
    "InstanceFCN": "InstanceFCN/instance_fcn_R50_COCO_k5.yaml",
    "MaskFormer": "MaskFormer/coco-panoptic/maskformer_panoptic_R50_bs64_554k.yaml",
    "SparseInst": "SparseInst/sparse_inst_r50_giam.yaml",
}


def export(name: str, folder: Path, size: tuple[int, int]) -> None:
    """Write a model of the zoo with random weights, for one size."""
    torch.manual_seed(0)
    cfg = model_zoo.get_config(name, device="cpu")
    export_model(build_model(cfg).eval(), cfg, Metadata(), folder, Options(size=size))


def cpu_seconds(runs: Mapping[str, Run], repeats: int) -> dict[str, float]:
    """Return each run's median CPU seconds; they take turns, after one of each to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(repeats + 1):
        for name, run in runs.items():
            start = time.process_time()
            run()
            if number:
                seconds[name].append(time.process_time() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def row(method: str, size: tuple[int, int], repeats: int) -> list[str]:
    """Measure one method, and return its line of the table."""
    images = random_images(1, size, 0).numpy()
    with tempfile.TemporaryDirectory() as root:
        try:
            export(MODELS[method], Path(root) / "exported", size)
        except SoloFamilyError as error:
            return [method, str(error), *[""] * len(ENGINES)]
        models = {
            name: ExportedModel(Path(root) / "exported", threads=1, engine=name) for name in ENGINES
        }
        runs = {name: lambda model=model: model.forward(images) for name, model in models.items()}
        seconds = cpu_seconds(runs, repeats)
    first = next(iter(seconds.values()))
    shown = [f"{value:.2f}" for value in seconds.values()]
    return [method, f"{size[0]} x {size[1]}", *shown, f"{list(seconds.values())[-1] / first:.2f}"]


def main() -> None:
    """Print the table, a line as soon as it is measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, nargs=2, default=(320, 448), metavar=("H", "W"))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--methods", nargs="+", choices=MODELS, default=list(MODELS))
    args = parser.parse_args()
    rows = []
    for method in args.methods:
        rows.append(row(method, (args.size[0], args.size[1]), args.repeats))
        print(*rows[-1], flush=True)
    print(tabulate(rows, ("model", "size", *ENGINES, "ratio"), tablefmt="github"))


if __name__ == "__main__":
    main()
