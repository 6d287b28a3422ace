"""Tiles beside SAHI's slices: the same weights, pictures and tile size, each in its own process.

    python -m benchmarks.tiles --config-file RUN/config.yaml --weights RUN/model_final.pth

SAHI (PyPI, requirements/no_deps.txt) predicts through its own class for detectron2 models, with its
defaults: every slice and the whole picture, merged by GREEDYNMM. Without `--dataset` the picture is
a mosaic of pictures of the shapes dataset, for models of the quick start. AP counts all
detections of a picture; seconds are those of predicting, without loading the model; memory is the
peak of the process beyond what it had with the model loaded and one tile predicted.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from detectron2.data import DatasetCatalog
from pycocotools import mask as mask_util
from tabulate import tabulate

import solo_family  # noqa: F401  # makes SAHI's detectron2 load our configs
from solo_family.config import setup_cfg
from solo_family.data.formats.coco_json import dataset_truth
from solo_family.data.formats.register import register_in_place
from solo_family.data.formats.synthetic import make_shapes
from solo_family.evaluation.coco_results import average_precision, evaluate
from solo_family.predictor import Predictor

ROOT = Path(__file__).resolve().parent.parent
WAYS = ("ours", "sahi")

Results = list[dict[str, Any]]


def main() -> None:
    """Measure both ways, and print a table."""
    args = _arguments()
    if args.way:
        Path(args.out).write_text(json.dumps(_measure(args)))
        return
    with tempfile.TemporaryDirectory() as folder:
        if not args.dataset:
            args.dataset = make_mosaic(Path(folder), *args.mosaic)
        rows = [_row(way, args, Path(folder)) for way in WAYS]
    print(tabulate(rows, headers="keys", floatfmt=".2f"))
    ours, theirs = rows
    shares = {key: ours[key] / theirs[key] for key in ("CPU seconds", "MiB beyond the model")}
    print(", ".join(f"{key}: {share:.2f} of SAHI's" for key, share in shares.items()))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--config-file", required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--dataset", default="", help="coco_json:ANNOTATIONS.json:IMAGES")
    parser.add_argument("--mosaic", type=int, nargs=2, default=(4, 6), metavar=("ROWS", "COLUMNS"))
    parser.add_argument("--tile", type=int, default=256)
    parser.add_argument("--overlap", type=int, default=64)
    parser.add_argument("--threshold", type=float, default=0.1, help="the lowest score")
    parser.add_argument("--postprocess", default="GREEDYNMM", help="SAHI's: GREEDYNMM, NMM, NMS")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--out", help=argparse.SUPPRESS)
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="config keys and values, ours alone")
    return parser.parse_args()


def _row(way: str, args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run one way in a process of its own, and return its line of the table."""
    out = folder / f"{way}.json"
    own = ("way", "out", "mosaic", "opts")
    flags = {name: value for name, value in vars(args).items() if name not in own}
    words = [f"--{name.replace('_', '-')}={value}" for name, value in flags.items()]
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.tiles", *words]
    subprocess.run([*command, f"--way={way}", f"--out={out}", *args.opts], cwd=ROOT, check=True)
    return {"way": way, **with_precision(args.dataset, json.loads(out.read_text()))}


def with_precision(dataset: str, measured: dict[str, Any]) -> dict[str, Any]:
    """Return what `measure` returned, with AP in the place of the results."""
    register_in_place([dataset])
    evaluation = evaluate(dataset_truth(dataset), measured.pop("results"))
    ap50 = average_precision(evaluation, iou_threshold=0.5)
    return {"AP": average_precision(evaluation), "AP50": ap50, **measured}


def _measure(args: argparse.Namespace) -> dict[str, Any]:
    import torch

    if args.threads:
        torch.set_num_threads(args.threads)
    predict = (_ours if args.way == "ours" else _sahi)(args)
    return measure(predict, args.dataset, args.tile)


def measure(predict: Callable[[np.ndarray], Results], dataset: str, side: int) -> dict[str, Any]:
    """Predict every picture of a dataset; return results, seconds and memory of this process.

    Args:
        predict: returns the instances of a picture, BGR uint8 [H, W, 3], with `label` as the index
            of their class.
        dataset: a name in place.
        side: of the corner of the first picture that is predicted before anything is measured.
    """
    register_in_place([dataset])
    records = DatasetCatalog.get(dataset)
    ids = sorted(dataset_truth(dataset).getCatIds())
    predict(np.ascontiguousarray(_read(records[0]["file_name"])[:side, :side]))
    before = memory_mib("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    results: Results = []
    seconds = cpu = 0.0
    for record in records:
        picture = _read(record["file_name"])
        start, start_cpu = time.perf_counter(), time.process_time()
        found = predict(picture)
        seconds += time.perf_counter() - start
        cpu += time.process_time() - start_cpu
        for one in found:
            category = {"image_id": record["image_id"], "category_id": ids[one.pop("label")]}
            results.append(one | category)
    return {
        "found": len(results),
        "seconds": seconds,
        "CPU seconds": cpu,
        "MiB beyond the model": memory_mib("VmHWM") - before,
        "results": results,
    }


def _read(path: str) -> np.ndarray:
    picture = cv2.imread(path)
    if picture is None:
        raise SystemExit(f"{path} can't be read")
    return picture


def memory_mib(what: str) -> float:
    """Return a line of this process's status, VmRSS (what it has) or VmHWM (its peak), in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(what)) / 1024


def _ours(args: argparse.Namespace) -> Callable[[np.ndarray], Results]:
    predictor = Predictor(
        setup_cfg(args.config_file, ["MODEL.WEIGHTS", args.weights, *args.opts]),
        device=args.device,
        confidence_threshold=args.threshold,
        tile=(args.tile, args.overlap),
    )
    return results_of(predictor)


def results_of(predictor: Predictor) -> Callable[[np.ndarray], Results]:
    """Return a function that gives the instances of a picture, BGR uint8 [H, W, 3], as records."""

    def predict(picture: np.ndarray) -> Results:
        result = predictor(picture, channels="BGR")
        return [
            {"segmentation": one["segmentation"], "score": one["score"], "label": int(label)}
            for one, label in zip(result.to_coco(), result.labels, strict=True)
        ]

    return predict


def _sahi(args: argparse.Namespace) -> Callable[[np.ndarray], Results]:
    from sahi import AutoDetectionModel
    from sahi.predict import get_sliced_prediction

    names = Predictor(args.config_file, args.weights, device=args.device).class_names
    model = AutoDetectionModel.from_pretrained(
        model_type="detectron2",
        model_path=args.weights,
        config_path=args.config_file,
        category_mapping={str(index): name for index, name in enumerate(names)},
        confidence_threshold=args.threshold,
        device=args.device,
    )

    # DefaultPredictor takes BGR and turns it round if the model wants RGB. SAHI 0.12.8 turns its
    # RGB round only for models that want BGR, so that others would see blue for red.
    swaps = model.model.input_format == "RGB"

    def predict(picture: np.ndarray) -> Results:
        found = get_sliced_prediction(
            picture if swaps else np.ascontiguousarray(picture[:, :, ::-1]),
            model,
            slice_height=args.tile,
            slice_width=args.tile,
            overlap_height_ratio=args.overlap / args.tile,
            overlap_width_ratio=args.overlap / args.tile,
            postprocess_type=args.postprocess,
            verbose=0,
        )
        results = []
        for one in found.object_prediction_list:
            assert one.mask is not None
            polygons = [part for part in one.mask.segmentation if len(part) >= 6]
            if polygons:
                parts = mask_util.frPyObjects(polygons, *picture.shape[:2])
                rle = mask_util.merge(parts)
                rle["counts"] = rle["counts"].decode()
                score = float(one.score.value)
                results.append({"segmentation": rle, "score": score, "label": int(one.category.id)})
        return results

    return predict


def make_mosaic(root: Path, rows: int, columns: int) -> str:
    """Write one picture made of pictures of the shapes dataset; return its name in place."""
    shapes = make_shapes(root / "shapes", num_train=1, num_val=rows * columns)
    content = json.loads((shapes / "annotations" / "val.json").read_text())
    height, width = content["images"][0]["height"], content["images"][0]["width"]
    size = (rows * height, columns * width)
    mosaic = np.zeros((*size, 3), np.uint8)
    places = {}
    for index, image in enumerate(content["images"]):
        top, left = (index // columns) * height, (index % columns) * width
        places[image["id"]] = top, left
        part = cv2.imread(str(shapes / "val" / image["file_name"]))
        mosaic[top : top + height, left : left + width] = part
    for annotation in content["annotations"]:
        top, left = places[annotation["image_id"]]
        mask = np.zeros(size, np.uint8, order="F")
        mask[top : top + height, left : left + width] = _decode(annotation["segmentation"])
        rle = mask_util.encode(mask)
        x, y, w, h = annotation["bbox"]
        annotation |= {
            "image_id": 1,
            "bbox": [x + left, y + top, w, h],
            "segmentation": {"size": list(size), "counts": rle["counts"].decode()},
        }
    content["images"] = [{"id": 1, "file_name": "mosaic.png", "height": size[0], "width": size[1]}]
    (root / "images").mkdir()
    cv2.imwrite(str(root / "images" / "mosaic.png"), mosaic)
    (root / "mosaic.json").write_text(json.dumps(content))
    return f"coco_json:{root}/mosaic.json:{root}/images"


def _decode(rle: dict[str, Any]) -> np.ndarray:
    if isinstance(rle["counts"], list):
        rle = mask_util.frPyObjects(rle, *rle["size"])
    return mask_util.decode(rle)


if __name__ == "__main__":
    main()
