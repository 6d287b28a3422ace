"""LVIS and Cityscapes are evaluated by their own packages, where these are installed."""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets.builtin_meta import _get_builtin_metadata
from detectron2.data.datasets.lvis import get_lvis_instances_meta
from detectron2.evaluation import CityscapesInstanceEvaluator, DatasetEvaluator, LVISEvaluator
from detectron2.structures import Boxes, Instances
from PIL import Image

from solo_family.evaluation.build import build_evaluator
from solo_family.evaluation.preconditions import instance_kind

from ..conftest import tiny_cfg

HEIGHT, WIDTH = 64, 96
# Left, top, right, bottom and class of the objects of two pictures.
OBJECTS = {
    1: [(4, 4, 24, 30, 0), (40, 10, 80, 50, 1)],
    2: [(10, 20, 60, 60, 1)],
}


def predicted(objects: list[tuple[int, ...]], scores: list[float] | None = None) -> Instances:
    masks = torch.zeros((len(objects), HEIGHT, WIDTH), dtype=torch.bool)
    for mask, (left, top, right, bottom, _) in zip(masks, objects):
        mask[top:bottom, left:right] = True
    boxes = torch.tensor([box[:4] for box in objects], dtype=torch.float32).reshape(-1, 4)
    return Instances(
        (HEIGHT, WIDTH),
        pred_boxes=Boxes(boxes),
        pred_masks=masks,
        scores=torch.tensor(scores or [0.9] * len(objects)),
        pred_classes=torch.tensor([box[4] for box in objects], dtype=torch.int64),
    )


def segm_of(
    evaluator: DatasetEvaluator,
    files: dict[int, str],
    found: Mapping[int, Sequence[tuple[int, ...]]],
) -> dict[str, float]:
    evaluator.reset()
    for identity, file in files.items():
        given = {"image_id": identity, "file_name": file}
        evaluator.process([given], [{"instances": predicted(list(found[identity]))}])
    return evaluator.evaluate()["segm"]


def write_lvis(root: Path, name: str) -> str:
    categories = [
        {"id": identity, "name": f"c{identity}", "frequency": "f", "image_count": 2}
        for identity in (1, 2)
    ]
    annotations = [
        {
            "id": 10 * image + place,
            "image_id": image,
            "category_id": kind + 1,
            "bbox": [left, top, right - left, bottom - top],
            "area": (right - left) * (bottom - top),
            "segmentation": [[left, top, right, top, right, bottom, left, bottom]],
        }
        for image, objects in OBJECTS.items()
        for place, (left, top, right, bottom, kind) in enumerate(objects, start=1)
    ]
    images = [
        {
            "id": image,
            "height": HEIGHT,
            "width": WIDTH,
            "coco_url": f"http://images.cocodataset.org/images/{image}.png",
            "neg_category_ids": [1, 2],
            "not_exhaustive_category_ids": [],
        }
        for image in OBJECTS
    ]
    content = {"images": images, "categories": categories, "annotations": annotations}
    (root / "lvis.json").write_text(json.dumps(content))
    DatasetCatalog.register(name, list)
    MetadataCatalog.get(name).set(
        json_file=str(root / "lvis.json"),
        image_root=str(root) + "/",
        evaluator_type="lvis",
        **get_lvis_instances_meta("lvis_v1"),
    )
    return name


def test_lvis(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("lvis")
    name = write_lvis(tmp_path, f"lvis_v1_{tmp_path.name}")
    cfg = tiny_cfg(num_classes=1203)
    evaluator = build_evaluator(cfg, name, str(tmp_path / "out"))
    assert isinstance(evaluator, LVISEvaluator)
    assert isinstance(instance_kind(name).build(name, str(tmp_path / "out")), LVISEvaluator)
    files = {image: f"{image}.png" for image in OBJECTS}
    assert segm_of(evaluator, files, OBJECTS)["AP"] == pytest.approx(100)
    # The second class is known not to be elsewhere in the first picture: a mistake that counts.
    wrong = {1: [*OBJECTS[1], (0, 40, 20, 60, 1)], 2: []}
    assert 0 < segm_of(evaluator, files, wrong)["AP"] < 90
    with caplog.at_level(logging.WARNING):
        assert segm_of(evaluator, files, {1: [], 2: []})["AP"] == 0
    assert "No instance was predicted on any image" in caplog.text


def write_cityscapes(root: Path, name: str) -> dict[int, str]:
    """Writes ground truth of a person (24) and a car (26) as instance ids, and registers it."""
    (root / "gtFine" / "town").mkdir(parents=True)
    files = {}
    for image, objects in OBJECTS.items():
        ids = np.zeros((HEIGHT, WIDTH), np.uint16)
        for left, top, right, bottom, kind in objects:
            ids[top:bottom, left:right] = (24, 26)[kind] * 1000
        stem = f"town_000000_{image:06d}"
        Image.fromarray(ids).save(root / "gtFine" / "town" / f"{stem}_gtFine_instanceIds.png")
        files[image] = str(root / f"{stem}_leftImg8bit.png")
    DatasetCatalog.register(name, list)
    MetadataCatalog.get(name).set(
        gt_dir=str(root / "gtFine"),
        image_dir=str(root),
        evaluator_type="cityscapes_instance",
        **_get_builtin_metadata("cityscapes"),
    )
    return files


def test_cityscapes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("cityscapesscripts")
    monkeypatch.chdir(tmp_path)
    name = f"cityscapes_{tmp_path.name}"
    files = write_cityscapes(tmp_path, name)
    classes = MetadataCatalog.get(name).thing_classes
    evaluator = build_evaluator(tiny_cfg(num_classes=len(classes)), name, str(tmp_path / "out"))
    assert isinstance(evaluator, CityscapesInstanceEvaluator)
    assert isinstance(instance_kind(name).build(name, ""), CityscapesInstanceEvaluator)
    places = [classes.index("person"), classes.index("car")]
    found = {
        image: [(*box[:4], places[box[4]]) for box in objects] for image, objects in OBJECTS.items()
    }
    assert segm_of(evaluator, files, found)["AP"] == pytest.approx(100)
    assert segm_of(evaluator, files, {1: [], 2: []})["AP"] == 0
    assert not (tmp_path / "matches.json").exists()
