"""COCO's metrics beside pycocotools and detectron2: python -m benchmarks.evaluation.

`--images 5000` draws as many images, with objects and detections in COCO's numbers;
`--dataset pennfudan_jpg` takes the validation images of a folder of real data
($SOLO_FAMILY_TEST_DATA), with detections near to its objects. Both ways get the same results, take
turns in one process, and must agree in every number. The metrics alone are compared with
pycocotools, and our evaluator with detectron2's, which uses pycocotools and writes the same two
files. Prints CPU seconds and their ratios.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
from detectron2.evaluation import COCOEvaluator
from pycocotools import mask as mask_util
from tabulate import tabulate

from .ratios import Pair, cpu_seconds, quiet

_SIZE = (480, 640)
# Of COCO val2017: classes, objects per image, and what a detector returns for each.
_CLASSES, _OBJECTS, _DETECTIONS = 80, 7.3, 36
_CORNERS = 24

Record = dict[str, Any]

# Detectron2's and ours: both also write the predictions into two files.
EVALUATOR = "the evaluator"


def main(words: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=5000, help="drawn images")
    parser.add_argument("--dataset", default="", help="a folder of real data instead")
    parser.add_argument("--turns", type=int, default=3)
    args = parser.parse_args(words)
    os.environ["OMP_NUM_THREADS"] = "1"
    rows = []
    with tempfile.TemporaryDirectory() as folder, quiet():
        if args.dataset:
            root = Path(os.environ["SOLO_FAMILY_TEST_DATA"], args.dataset)
            (file,) = root.rglob("instances_val*.json")
            case = Case(f"coco_json:{file}:{root / 'images'}", Path(folder))
        else:
            case = drawn(args.images, Path(folder))
        for name, pair in case.pairs().items():
            turns = [(pair.other(), pair.ours()) for _ in range(args.turns)]
            other, ours = (median(times) for times in zip(*turns))
            ratio = median(first / second for first, second in turns)
            rows.append((name, other, ours, ratio))
    print(f"{case.images} images, {len(case.results)} detections")
    headers = ("", "theirs, CPU s", "ours, CPU s", "theirs / ours")
    print(tabulate(rows, headers, tablefmt="pipe", floatfmt=(".0f", ".3f", ".3f", ".1f")))


class Case:
    """Ground truth and detections, and the ways to compare them.

    Args:
        name: of a registered dataset, or one in place.
        folder: for the files of results.
        results: detections, with the dataset's ids; by default some near to every object.
    """

    def __init__(self, name: str, folder: Path, results: list[Record] | None = None) -> None:
        from solo_family.data.formats.register import check_datasets
        from solo_family.evaluation.instance_results import InstanceEvaluator

        check_datasets([name])
        self.evaluator = InstanceEvaluator(name, ("segm",), str(folder))
        self.truth = self.evaluator._coco_api
        self.results = near(self.truth.dataset) if results is None else results
        self.images = len(self.truth.imgs)

    def pairs(self) -> dict[str, Pair]:
        """Return what is timed, after both ways were found to agree."""
        import contextlib

        from pycocotools.cocoeval import COCOeval

        from solo_family.evaluation.coco_metrics import coco_metrics

        given = self._by_image()

        def official() -> np.ndarray:
            results = [dict(result) for result in self.results]  # which get more fields
            with contextlib.redirect_stdout(None):
                evaluation = COCOeval(self.truth, self.truth.loadRes(results), "segm")
                evaluation.evaluate()
                evaluation.accumulate()
                evaluation.summarize()
            return evaluation.stats

        def metrics() -> np.ndarray:
            return coco_metrics(self.truth, self.results, "segm", (1, 10, 100)).stats

        def evaluated() -> float:
            self.evaluator.reset()
            self.evaluator._predictions = given
            return self.evaluator.evaluate()["segm"]["AP"]

        def detectron2s() -> float:
            # It changes the classes of what it gets.
            theirs._predictions = [
                image | {"instances": [dict(result) for result in image["instances"]]}
                for image in given
            ]
            return theirs.evaluate()["segm"]["AP"]

        theirs = self._detectron2s_evaluator()
        expected = official()
        if not np.array_equal(expected, metrics()):
            raise RuntimeError("The metrics are not the same.")
        if not 100 * expected[0] == evaluated() == detectron2s():
            raise RuntimeError("The AP is not the same.")
        return {
            "the metrics": Pair(cpu_seconds(official), cpu_seconds(metrics)),
            EVALUATOR: Pair(cpu_seconds(detectron2s), cpu_seconds(evaluated)),
        }

    def _detectron2s_evaluator(self) -> COCOEvaluator:
        """Return detectron2's evaluator with pycocotools, of the same ground truth."""
        evaluator = COCOEvaluator(
            self.evaluator._metadata.name,
            ("segm",),
            distributed=False,
            output_dir=self.evaluator._output_dir,
            use_fast_impl=False,
        )
        evaluator._coco_api = self.truth
        return evaluator

    def _by_image(self) -> list[Record]:
        classes = self.evaluator._metadata.thing_dataset_id_to_contiguous_id
        images: dict[Any, list[Record]] = defaultdict(list)
        for result in self.results:
            own = result | {"category_id": classes[result["category_id"]]}
            images[result["image_id"]].append(own)
        return [{"image_id": image, "instances": found} for image, found in images.items()]


def drawn(images: int, folder: Path) -> Case:
    """Return images with objects and detections in COCO's numbers, sizes and shapes."""
    import json

    rng = np.random.default_rng(0)
    height, width = _SIZE
    picture = np.zeros((*_SIZE, 3), np.uint8)
    cv2.imwrite(str(folder / "picture.png"), picture)
    dataset: Record = {"images": [], "annotations": [], "categories": _categories(_CLASSES)}
    results: list[Record] = []
    for image in range(1, images + 1):
        size = {"height": height, "width": width}
        dataset["images"].append({"id": image, "file_name": "picture.png", **size})
        present = rng.integers(1, _CLASSES + 1, 3)
        objects = [_place(rng, present) for _ in range(rng.poisson(_OBJECTS))]
        for centre, radii, category in objects:
            fields = {"id": len(dataset["annotations"]) + 1, "image_id": image}
            crowd = {"iscrowd": int(rng.random() < 0.01), "category_id": category}
            dataset["annotations"].append(fields | crowd | _annotation(rng, centre, radii))
        for _ in range(_DETECTIONS):
            centre, radii, category = _place(rng, present)
            if objects and rng.random() < 0.7:
                centre, radii, category = objects[rng.integers(len(objects))]
                centre = centre + rng.normal(0, 3, 2)
                radii = radii * rng.uniform(0.8, 1.2, 2)
            mask = _annotation(rng, centre, radii)["segmentation"]
            found = {"image_id": image, "category_id": category, "score": float(rng.random())}
            results.append(found | {"segmentation": mask})
    file = folder / "truth.json"
    file.write_text(json.dumps(dataset), encoding="utf-8")
    return Case(f"coco_json:{file}:{folder}", folder, results)


def near(dataset: Record) -> list[Record]:
    """Return twenty detections for each image: its objects' masks, shifted by a few pixels."""
    rng = np.random.default_rng(0)
    of_image: dict[Any, list[Record]] = defaultdict(list)
    for annotation in dataset["annotations"]:
        of_image[annotation["image_id"]].append(annotation)
    results = []
    for image, objects in of_image.items():
        for number in range(20):
            one = objects[number % len(objects)]
            mask = np.roll(mask_util.decode(one["segmentation"]), rng.integers(-9, 10, 2), (0, 1))
            found = {"image_id": image, "category_id": one["category_id"]}
            scored = {"score": float(rng.random()), "segmentation": _text(_encode(mask))}
            results.append(found | scored)
    return results


def _categories(count: int) -> list[Record]:
    return [{"id": number, "name": f"class {number}"} for number in range(1, count + 1)]


def _place(rng: np.random.Generator, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Return a centre (x, y), two radii in pixels, and a class, at random."""
    centre = rng.uniform((0, 0), _SIZE[::-1])
    return centre, np.exp(rng.uniform(1.5, 5, 2)), int(rng.choice(classes))


def _annotation(rng: np.random.Generator, centre: np.ndarray, radii: np.ndarray) -> Record:
    """Return the fields of an annotation that describe a jagged ellipse."""
    angles = np.linspace(0, 2 * np.pi, _CORNERS, endpoint=False)
    ring = np.stack([np.cos(angles), np.sin(angles)], 1) * rng.uniform(0.7, 1, (_CORNERS, 1))
    mask = np.zeros(_SIZE, np.uint8)
    cv2.fillPoly(mask, [np.round(ring * radii + centre).astype(int)], 1)
    rle = _encode(mask)
    box, area = mask_util.toBbox(rle).tolist(), float(mask_util.area(rle))
    return {"segmentation": _text(rle), "area": area, "bbox": box}


def _encode(mask: np.ndarray) -> Record:
    return mask_util.encode(np.asfortranarray(mask))


def _text(rle: Record) -> Record:
    return {"size": rle["size"], "counts": rle["counts"].decode()}


if __name__ == "__main__":
    main()
