"""Learn nuclei from tiles, and find them on a strip: whole, and tile by tile.

    python -m benchmarks.dense --output output/dense

benchmarks/nuclei.py tells which images these are. With `--classes` three kinds of nuclei are told
apart, in a folder of its own.
"""

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from detectron2.data.transforms import ResizeShortestEdge
from detectron2.engine import DefaultPredictor
from detectron2.structures import Instances
from tabulate import tabulate

from solo_family.checkpoint.efficientnet_lite0 import write_timm_weights
from solo_family.config import setup_cfg
from solo_family.engine import main as engine
from solo_family.predictor import Predictor

from .nuclei import HEIGHT, SIDE, SPLIT, WIDTH, boxes_of, download, make_data
from .strip import HEADS, found_by, measure, measure_strip, read

OVERLAP = 64  # of tiles that an image is predicted by, more than nearly all nuclei are long
CONFIG = Path(__file__).parents[1] / "configs/benchmarks/nuclei_solov2.yaml"


def train(root: Path, config: Path, datasets: tuple[str, str], opts: list[str]) -> Path:
    """Train from where an earlier call stopped, and return the folder of the run.

    Args:
        root: gets the backbone's weights and the run.
        config: a yaml file.
        datasets: the names in place of the data to train on, and to test on.
        opts: further keys and values.
    """
    weights = write_timm_weights(root / "efficientnet_lite0.pth")
    run = root / "solov2"
    words = ["--config-file", str(config), "--resume"]
    words += ["DATASETS.TRAIN", f"('{datasets[0]}',)", "DATASETS.TEST", f"('{datasets[1]}',)"]
    words += ["MODEL.TIMM.WEIGHTS", str(weights), "OUTPUT_DIR", str(run), *opts]
    if engine.main(words):
        raise SystemExit("training did not end")
    return run


def dataset(root: Path, part: str) -> str:
    """Return the name in place of a part of the data."""
    return f"coco_json:{root}/nuclei/{part}.json:{root}/nuclei/{part}"


def measure_section(root: Path, cfg: CfgNode) -> list[tuple[Any, ...]]:
    """Return the rows of the table: separate tiles, and the strip in one pass in every variant."""
    boxes = boxes_of(SPLIT, HEIGHT, WIDTH, SIDE)
    on_strip = [(x0, y0 - SPLIT, x1, y1 - SPLIT) for x0, y0, x1, y1 in boxes]
    ids = range(1, len(boxes) + 1)
    predictor = DefaultPredictor(cfg)
    find = found_by(predictor)
    folder = root / "nuclei"
    tiles = [read(folder / f"tiles/{x0:04}_{y0:04}.png") for x0, y0, _, _ in boxes]
    strip = read(folder / f"strip/0000_{SPLIT:04}.png")
    named = dataset(root, "tiles")
    rows = [measure("12 separate tiles", named, ids, lambda: list(map(find, tiles)))]
    # The strip is enlarged as its tiles are.
    edge = 2 * cfg.INPUT.MIN_SIZE_TEST
    predictor.aug = ResizeShortestEdge([edge, edge], 6 * cfg.INPUT.MAX_SIZE_TEST)
    rows += measure_strip(predictor, strip, on_strip, named, ids)
    whole = dataset(root, "strip")
    rows.append(measure("strip, not cut", whole, [1], lambda: [find(strip)]))
    by_tiles = Predictor(cfg, confidence_threshold=0.05, tile=(SIDE, OVERLAP))
    for title, part in (("strip by tiles, not cut", "strip"), ("other section by tiles", "other")):
        if (folder / f"{part}.json").exists():
            image = read(next((folder / part).iterdir()))
            find_all = partial(_find_by_tiles, by_tiles, image)
            rows.append(measure(title, dataset(root, part), [1], find_all))
    return rows


def _find_by_tiles(predictor: Predictor, image: np.ndarray) -> list[Instances]:
    return [predictor(image, channels="BGR").instances]


def main() -> None:
    """Run the benchmark from where an earlier call stopped, and print its table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("output/dense"))
    parser.add_argument(
        "--wheel", type=Path, help="the downloaded wheel; by default pip fetches it"
    )
    parser.add_argument("--classes", action="store_true", help="three classes in place of one")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="config keys and values")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    make_data(args.output / "nuclei", args.wheel or download(args.output), args.classes)
    data = (dataset(args.output, "train"), dataset(args.output, "tiles"))
    run = train(args.output, CONFIG, data, args.opts)
    cfg = setup_cfg(str(run / "config.yaml"), ["MODEL.WEIGHTS", str(run / "model_final.pth")])
    rows = measure_section(args.output, cfg)
    print(tabulate(rows, HEADS, floatfmt=".1f"))


if __name__ == "__main__":
    main()
