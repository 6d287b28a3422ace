"""What `benchmarks.ratios` measures: other ways to a result, and ours.

N masks of H x W pixels.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from pycocotools import mask as mask_util
from torch import Tensor

from .ratios import Pair, cpu_seconds

_SIZE = (100, 168)
_IMAGES = 60  # of an evaluation
_OBJECTS, _FOUND, _CLASSES = 7, 30, 3  # in each: truth, and predictions


def use_one_thread() -> None:
    """Let numpy's, torch's and OpenCV's work be done in this thread."""
    torch.set_num_threads(1)
    cv2.setNumThreads(0)


def matrix_nms_of_the_paper(
    masks: Tensor, labels: Tensor, scores: Tensor, sigma: float = 2.0
) -> Tensor:
    """Return decayed scores: the pseudo code of SOLOv2 (arXiv 2003.10152, Fig. 8), for classes.

    Args:
        masks: bool [N, H, W], by descending score.
        labels: int64 [N].
        scores: [N].
        sigma: of the Gaussian.
    """
    flat = masks.flatten(1).float()
    intersection = flat @ flat.T
    areas = flat.sum(1)
    union = areas[:, None] + areas[None] - intersection
    same = labels[:, None] == labels[None]
    ious = (intersection / union * same).triu(diagonal=1)
    largest = ious.max(0).values[:, None].expand_as(ious)
    decay = (-sigma * (ious**2 - largest**2)).exp().min(0).values
    return scores * decay


def matrix_nms(count: int, classes: int, _: Path) -> Pair:
    """Rectangles of all sizes, against the paper's pseudo code."""
    from solo_family.ops.matrix_nms import matrix_nms_decay

    generator = torch.Generator().manual_seed(0)
    corners = torch.rand((count, 2, 2), generator=generator) * torch.tensor(_SIZE)
    low, high = corners.amin(1), corners.amax(1) + 2
    rows, columns = torch.arange(_SIZE[0]), torch.arange(_SIZE[1])
    in_rows = (rows >= low[:, :1]) & (rows < high[:, :1])
    in_columns = (columns >= low[:, 1:]) & (columns < high[:, 1:])
    masks = in_rows[:, :, None] & in_columns[:, None]
    labels = torch.randint(0, classes, (count,), generator=generator)
    scores = torch.rand(count, generator=generator).sort(descending=True).values

    def theirs() -> Tensor:
        return matrix_nms_of_the_paper(masks, labels, scores)

    def ours() -> Tensor:
        return matrix_nms_decay(masks, labels, scores, "gaussian", 2.0, False)[1]

    if not torch.allclose(theirs().sort().values, ours().sort().values, atol=1e-6):
        raise RuntimeError("The scores are not the same.")
    return Pair(cpu_seconds(theirs), cpu_seconds(ours))


def imports(statement: str, _: Path) -> Pair:
    """What a new process takes for `import torch`, against another statement."""
    return Pair(partial(_import, "import torch"), partial(_import, statement))


def _import(statement: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", statement], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def mapper(folder: Path) -> Pair:
    """Both mappers on the shapes, with the quick start's augmentation and bit masks."""
    from detectron2.data import DatasetCatalog, DatasetMapper

    from solo_family.cli.quickstart import dataset_opts
    from solo_family.config import setup_cfg
    from solo_family.data.formats.register import check_datasets
    from solo_family.data.formats.synthetic import make_shapes
    from solo_family.data.loading.dataset_mapper import MaskDatasetMapper
    from solo_family.model_zoo import get_config_file

    shapes = make_shapes(folder / "shapes", num_train=24, num_val=1)
    cfg = setup_cfg(get_config_file("quickstart/solov2.yaml"), dataset_opts("instance", shapes))
    check_datasets(cfg.DATASETS.TRAIN)
    dicts = DatasetCatalog.get(cfg.DATASETS.TRAIN[0])
    theirs_cfg = cfg.clone()
    theirs_cfg.merge_from_list(["MODEL.MASK_ON", True, "INPUT.MASK_FORMAT", "bitmask"])
    theirs, ours = DatasetMapper(theirs_cfg, True), MaskDatasetMapper(cfg, True)
    return Pair(
        cpu_seconds(lambda: [theirs(item) for item in dicts]),
        cpu_seconds(lambda: [ours(item) for item in dicts]),
    )


def evaluation(folder: Path) -> Pair:
    """COCO's metrics of masks: pycocotools, against our evaluator on the same results."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    from solo_family.data.formats.register import check_datasets
    from solo_family.evaluation.instance_results import InstanceEvaluator

    file, results = synthetic_results(folder)
    truth = COCO(str(file))
    name = f"coco_json:{file}:{folder}"
    check_datasets([name])
    evaluator = InstanceEvaluator(name, ("segm",), str(folder))

    def theirs() -> float:
        # Categories have the ids 1 to K, classes the numbers 0 to K - 1.
        found = [result | {"category_id": result["category_id"] + 1} for result in results]
        evaluated = COCOeval(truth, truth.loadRes(found), "segm")
        evaluated.evaluate()
        evaluated.accumulate()
        evaluated.summarize()
        return 100 * evaluated.stats[0]

    def ours() -> float:
        evaluator.reset()
        evaluator._predictions = [
            {
                "image_id": image,
                "instances": [dict(result) for result in results if result["image_id"] == image],
            }
            for image in range(1, _IMAGES + 1)
        ]
        return evaluator.evaluate()["segm"]["AP"]

    if abs(theirs() - ours()) > 1e-6:
        raise RuntimeError("The metrics are not the same.")
    return Pair(cpu_seconds(theirs), cpu_seconds(ours))


def synthetic_results(folder: Path) -> tuple[Path, list[dict[str, Any]]]:
    """Write ground truth of ellipses in COCO's format.

    Returns:
        Its file, and results near to it, of classes from 0 as a model's.
    """
    rng = np.random.default_rng(0)
    height, width = _SIZE
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for image in range(1, _IMAGES + 1):
        name = f"{image}.png"
        cv2.imwrite(str(folder / name), np.zeros((height, width, 3), np.uint8))
        images.append({"id": image, "file_name": name, "height": height, "width": width})
        centres = rng.integers((20, 20), (width - 20, height - 20), (_OBJECTS, 2))
        axes = rng.integers(5, 40, (_OBJECTS, 2))
        for index, (centre, radii) in enumerate(zip(centres, axes)):
            fields = {"id": len(annotations) + 1, "image_id": image, "iscrowd": 0}
            annotations.append(
                {**fields, "category_id": index % _CLASSES + 1, **_ellipse(centre, radii)}
            )
        for number in range(_FOUND):
            index = number % _OBJECTS
            centre = centres[index] + rng.integers(-4, 5, 2)
            radii = np.maximum(3, axes[index] + rng.integers(-3, 4, 2))
            shape = _ellipse(centre, radii)
            scored = {"image_id": image, "category_id": index % _CLASSES, "score": rng.random()}
            results.append({**scored, "segmentation": shape["segmentation"]})
    categories = [{"id": index + 1, "name": f"class {index}"} for index in range(_CLASSES)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    file = folder / "truth.json"
    file.write_text(json.dumps(content), encoding="utf-8")
    return file, results


def _ellipse(centre: Any, radii: Any) -> dict[str, Any]:
    """Return the fields of an annotation that describe a shape."""
    mask = np.zeros(_SIZE, np.uint8)
    cv2.ellipse(mask, tuple(map(int, centre)), tuple(map(int, radii)), 0, 0, 360, 1, -1)
    rle = mask_util.encode(np.asfortranarray(mask))
    box, area = mask_util.toBbox(rle).tolist(), float(mask_util.area(rle))
    text = {"size": rle["size"], "counts": rle["counts"].decode()}
    return {"segmentation": text, "area": area, "bbox": box}


PAIRS: dict[str, Callable[[Path], Pair]] = {
    "matrix NMS, 500 masks, 1 class": partial(matrix_nms, 500, 1),
    "matrix NMS, 500 masks, 80 classes": partial(matrix_nms, 500, 80),
    "matrix NMS, 2000 masks, 1 class": partial(matrix_nms, 2000, 1),
    "import solo_family, torch": partial(imports, "import solo_family, torch"),
    "import get_cfg": partial(imports, "from solo_family import get_cfg; get_cfg()"),
    "import the training": partial(imports, "import solo_family.engine.main"),
    "mapper": mapper,
    "evaluation of masks": evaluation,
}
