"""How many pictures a second the demo does in batches and threads, and one by one.

python -m benchmarks.demo_throughput --config-file output/config.yaml --weights WEIGHTS

A picture is read, predicted, drawn and written. Both ways take turns on the same pictures, which
are made of noise and shapes, so that what else the machine does falls on both alike. "One by one"
is the plain loop: no thread, batches of one.
"""

import argparse
import logging
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from solo_family.cli import draw_sources
from solo_family.cli.draw_items import Drawing
from solo_family.cli.draw_sources import Demo
from solo_family.cli.source import Source
from solo_family.config import setup_cfg
from solo_family.predictor.predictions import keep_confident
from solo_family.predictor.sources import from_config


def write_pictures(folder: Path, count: int, height: int, width: int) -> list[Path]:
    """Write JPEGs of rectangles on noise."""
    generator = np.random.default_rng(0)
    paths = []
    for index in range(count):
        image = generator.integers(0, 90, (height, width, 3), np.uint8)
        for _ in range(6):
            side = min(height, width) // 4
            top, left = generator.integers(0, height - side), generator.integers(0, width - side)
            image[top : top + side, left : left + side] += generator.integers(60, 160, 3, np.uint8)
        paths.append(folder / f"{index:03d}.jpg")
        Image.fromarray(image).save(paths[-1], quality=92)
    return paths


def demo(model: Any, batch: int, threshold: float, threaded: bool) -> Demo:
    drawing = Drawing(model.metadata, lambda found: keep_confident(found, threshold))
    made = Demo(predict=model.predict, drawing=drawing, batch=batch)
    made._is_threaded = threaded
    return made


def seconds(run: Demo, paths: list[Path], folder: Path) -> float:
    start = time.perf_counter()
    run.run([(Source(path, is_video=False), folder / path.name) for path in paths])
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config-file", required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--size", type=int, nargs=2, default=[960, 1280], metavar=("H", "W"))
    parser.add_argument("--pictures", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=0, help="(default: the model's own)")
    parser.add_argument("--threshold", type=float, default=0.5)
    args = parser.parse_args()
    logging.disable(logging.INFO)
    logging.getLogger(draw_sources.__name__).setLevel(logging.ERROR)
    cfg = setup_cfg(args.config_file, ["MODEL.WEIGHTS", args.weights])
    model = from_config(cfg)
    ways = {
        "one by one": demo(model, 1, args.threshold, threaded=False),
        "in threads": demo(model, args.batch or model.batch, args.threshold, threaded=True),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory() as folder:
        paths = write_pictures(Path(folder), args.pictures, *args.size)
        out = Path(folder, "out")
        out.mkdir()
        for run in ways.values():
            seconds(run, paths[:2], out)
        for _ in range(args.rounds):
            for name, run in ways.items():
                times[name].append(seconds(run, paths, out))
    height, width = args.size
    print(f"{args.pictures} pictures of {height} x {width}, {torch.get_num_threads()} threads")
    for name, taken in times.items():
        rate = args.pictures / statistics.median(taken)
        print(f"{name}: {rate:.2f} pictures per second, batch {ways[name].batch}")
    ratios = [one / other for one, other in zip(*times.values())]
    print(f"ratio, median of {args.rounds} rounds: {statistics.median(ratios):.2f}")
    print(f"ratios: {', '.join(f'{ratio:.2f}' for ratio in ratios)}")


if __name__ == "__main__":
    main()
