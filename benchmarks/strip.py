"""One pass over a strip of pictures against the pictures apart, by one model that saw such alone.

    python -m benchmarks.strip --run output/quickstart/solov2 --data output/quickstart/shapes \
        --size 256 352

Twelve pictures of `val` are put together, 2 x 6, without resizing; what is found is cut again where
they meet, so that objects count alike. `--size` is the padded size of the training's images.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import cv2
import numpy as np
from detectron2.data.transforms import ResizeShortestEdge
from detectron2.engine import DefaultPredictor
from detectron2.structures import Boxes, Instances
from tabulate import tabulate

from solo_family.config import setup_cfg
from solo_family.data.formats.register import register_in_place
from solo_family.evaluation.kinds import coco_evaluator
from solo_family.methods.grid import model as grid_model
from solo_family.methods.solov2.model import SOLOv2
from solo_family.modeling.layers.coord import Span
from solo_family.ops import mask_boxes

Box = tuple[int, int, int, int]
HEADS = ("", "found", "AP", "AP50", "APs", "APm", "CPU seconds")
ROWS, COLUMNS = 2, 6
# What is measured in the reference size: grids, coordinates, and how far masks reach.
VARIANTS = (
    ("strip, published", False, False, False),
    ("strip, grids alone", True, False, False),
    ("strip, coordinates alone", False, True, False),
    ("strip, both", True, True, False),
    ("strip, both, local masks (the key)", True, True, True),
)


@contextmanager
def variant(model: SOLOv2, grid: bool, coordinates: bool, local: bool) -> Iterator[None]:
    """Let grids, coordinates or masks follow the reference size; all are trained alike."""
    reference = model.layout
    published = replace(reference, reference=None)
    spans = [reference.span(stride) for stride in model.level_strides]
    branch = model.mask_branch.coord_span

    def span_of_coords(number: int) -> Span | None:
        return spans[number] if coordinates else None

    model.layout = model.head.layout = reference if grid else published
    model.mask_branch.coord_span = branch if coordinates else None
    try:
        with ExitStack() as stack:
            stack.enter_context(mock.patch.object(model.head, "span_of_coords", span_of_coords))
            if not local:
                whole = mock.patch.object(grid_model, "decode_locally", lambda decoder, *_: decoder)
                stack.enter_context(whole)
            yield
    finally:
        model.layout = model.head.layout = reference
        model.mask_branch.coord_span = branch


def cut(instances: Instances, boxes: Sequence[Box]) -> list[Instances]:
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


def read(path: Path) -> np.ndarray:
    """Return a picture, BGR [H, W, 3]."""
    picture = cv2.imread(str(path))
    assert picture is not None, path
    return picture


def found_by(predictor: DefaultPredictor) -> Callable[[np.ndarray], Instances]:
    """Return a function that finds the instances of a picture, BGR [H, W, 3]."""
    return lambda picture: predictor(picture)["instances"].to("cpu")


def measure(
    title: str, dataset: str, ids: Sequence[Any], find: Callable[[], list[Instances]]
) -> tuple[Any, ...]:
    """Return a row of the table.

    Args:
        title: of the row.
        dataset: a name in place.
        ids: of its images.
        find: returns the instances of each.
    """
    start = time.process_time()
    found = find()
    seconds = time.process_time() - start
    register_in_place([dataset])
    with tempfile.TemporaryDirectory() as folder:
        evaluator = coco_evaluator(dataset, folder)
        evaluator.reset()
        for identity, instances in zip(ids, found, strict=True):
            evaluator.process([{"image_id": identity}], [{"instances": instances}])
        segm = evaluator.evaluate()["segm"]
    scores = [segm[key] for key in ("AP", "AP50", "APs", "APm")]
    return title, sum(map(len, found)), *scores, seconds


def measure_strip(
    predictor: DefaultPredictor,
    strip: np.ndarray,
    boxes: Sequence[Box],
    dataset: str,
    ids: Sequence[Any],
) -> Iterator[tuple[Any, ...]]:
    """Yield the row of each variant, of what is found on the strip, cut to its boxes."""
    for title, *which in VARIANTS:
        with variant(predictor.model, *which):
            yield measure(title, dataset, ids, lambda: cut(found_by(predictor)(strip), boxes))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True, help="folder of a SOLOv2's training")
    parser.add_argument("--data", type=Path, required=True, help="of annotations/val.json and val")
    parser.add_argument("--size", type=int, nargs=2, required=True, metavar=("HEIGHT", "WIDTH"))
    args = parser.parse_args()
    opts = ["MODEL.WEIGHTS", str(args.run / "model_final.pth"), "MODEL.DEVICE", "cpu"]
    opts += ["MODEL.SOLOV2.GRID_REFERENCE_SIZE", str(tuple(args.size))]
    opts += ["TEST.DETECTIONS_PER_IMAGE", "1000", "MODEL.SOLOV2.NMS_PRE", "3000"]
    cfg = setup_cfg(str(args.run / "config.yaml"), opts)
    content = json.loads((args.data / "annotations/val.json").read_text())
    images = content["images"][: ROWS * COLUMNS]
    ids = [image["id"] for image in images]
    kept = [item for item in content["annotations"] if item["image_id"] in ids]
    pictures = [read(args.data / "val" / image["file_name"]) for image in images]
    height, width = pictures[0].shape[:2]
    lines = [pictures[row * COLUMNS : (row + 1) * COLUMNS] for row in range(ROWS)]
    strip = np.vstack([np.hstack(line) for line in lines])
    corners = [(x * width, y * height) for y in range(ROWS) for x in range(COLUMNS)]
    boxes = [(x, y, x + width, y + height) for x, y in corners]
    predictor = DefaultPredictor(cfg)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "val.json"
        file.write_text(json.dumps({**content, "images": images, "annotations": kept}))
        dataset = f"coco_json:{file}:{args.data / 'val'}"
        find = found_by(predictor)
        rows = [measure("12 pictures apart", dataset, ids, lambda: list(map(find, pictures)))]
        # Enlarged as each of them is.
        edge = ROWS * cfg.INPUT.MIN_SIZE_TEST
        predictor.aug = ResizeShortestEdge([edge, edge], COLUMNS * cfg.INPUT.MAX_SIZE_TEST)
        rows += measure_strip(predictor, strip, boxes, dataset, ids)
    print(tabulate(rows, HEADS, floatfmt=".1f"))


if __name__ == "__main__":
    main()
