"""AP, time and memory of one pass, and of tiles, against the number of objects in an image.

    python -m benchmarks.crowd --output output/crowd

A SOLOv2 learns drawn crowds (solo_family/data/formats/synthetic_crowd.py) of 64 objects in 256 x
256 pixels, and is tried on equally dense images of 10 to 5,000 objects, each number in a process of
its own. Seconds and memory are those of one image, without loading the model; memory is the peak of
the process beyond what it had with the model loaded and a small picture predicted.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from tabulate import tabulate

from solo_family.data.formats.synthetic_crowd import make_crowd
from solo_family.predictor import Predictor

from .dense import train
from .tiles import ROOT, measure, results_of, with_precision

CONFIG = ROOT / "configs/benchmarks/crowd_solov2.yaml"
# How many objects an image has, and how many such images are tried.
NUMBERS = {10: 30, 30: 10, 100: 6, 300: 4, 1000: 2, 2000: 1, 5000: 1}
TRAIN = [64] * 300
SIDE = 256  # of a tile
OVERLAP = 64
WAYS = {"one pass": None, "tiles": (SIDE, OVERLAP)}
PANELS = ("AP", "CPU seconds", "MiB beyond the model")


def dataset(root: Path, name: str) -> str:
    """Return the name in place of a part of the data."""
    return f"coco_json:{root}/crowd/annotations/{name}.json:{root}/crowd/{name}"


def row(root: Path, number: int, way: str) -> dict[str, Any]:
    """Measure one number of objects in a process of its own, and return its line of the table."""
    out = root / "measured.json"
    words = ["-W", "ignore", "-m", "benchmarks.crowd", "--output", str(root.resolve())]
    words += ["--number", str(number), "--way", way, "--out", str(out.resolve())]
    subprocess.run([sys.executable, *words], cwd=ROOT, check=True)
    measured = with_precision(dataset(root, str(number)), json.loads(out.read_text()))
    for name in ("found", "seconds", "CPU seconds"):
        measured[name] /= NUMBERS[number]
    return {"objects": number, "way": way, **measured}


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw the columns of `PANELS` against the number of objects."""
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    for axes, panel in zip(figure.subplots(1, len(PANELS)), PANELS, strict=True):
        for way in WAYS:
            own = [one for one in rows if one["way"] == way]
            axes.plot([one["objects"] for one in own], [one[panel] for one in own], "o-", label=way)
        axes.set(xscale="log", xlabel="objects in the image", title=panel, ylim=(0, None))
        axes.set_xticks(list(NUMBERS), [f"{number:,}" for number in NUMBERS], minor=False)
        axes.tick_params(axis="x", labelsize=7)
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    figure.axes[0].legend()
    figure.savefig(path, dpi=110)


def main() -> None:
    """Run the benchmark from where an earlier call stopped; print its table, and draw it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("output/crowd"))
    parser.add_argument("--number", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="config keys and values")
    args = parser.parse_args()
    if args.out:
        predictor = Predictor(str(args.output / "solov2"), tile=WAYS[args.way])
        measured = measure(results_of(predictor), dataset(args.output, str(args.number)), SIDE)
        args.out.write_text(json.dumps(measured))
        return
    parts = {str(number): [number] * images for number, images in NUMBERS.items()}
    make_crowd(args.output / "crowd", {"train": TRAIN, **parts})
    data = (dataset(args.output, "train"), dataset(args.output, "100"))
    train(args.output, CONFIG, data, args.opts)
    rows = [row(args.output, number, way) for number in NUMBERS for way in WAYS]
    print(tabulate(rows, headers="keys", floatfmt=".1f"))
    draw(rows, args.output / "crowd.png")


if __name__ == "__main__":
    main()
