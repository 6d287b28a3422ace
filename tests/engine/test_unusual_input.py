"""Datasets that are unusual and right: one of every kind of picture and mask, trained on whole."""

import json
import logging
import math
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.engine.hooks import CallbackHook
from detectron2.utils.env import seed_all_rng
from PIL import Image
from pycocotools import mask as mask_util

from solo_family.data.loading.dataset_mapper import MaskDatasetMapper
from solo_family.engine.trainer import Trainer

from ..coco_folder import CocoFolder, noise, rectangle, run_cfg

# From 0, with a gap.
CATEGORIES = {0: "cat", 5: "dog", 9: "cow"}


def rle(mask: np.ndarray, *, compressed: bool) -> dict[str, Any]:
    if compressed:
        encoded = mask_util.encode(np.asfortranarray(mask, np.uint8))
        return {"size": encoded["size"], "counts": encoded["counts"].decode()}
    runs, value = [0], False
    for pixel in mask.T.ravel().tolist():
        if pixel != value:
            runs.append(0)
            value = pixel
        runs[-1] += 1
    return {"size": list(mask.shape), "counts": runs}


def box_mask(height: int, width: int, left: int, top: int, w: int, h: int) -> np.ndarray:
    mask = np.zeros((height, width), bool)
    mask[top : top + h, left : left + w] = True
    return mask


def thing(*box: float, **more: Any) -> dict[str, Any]:
    return rectangle(*box, **({"category_id": 5} | more))


def add_pictures(folder: CocoFolder) -> None:
    """Adds every kind of file and size, each with one rectangle in its upper left quarter."""
    upright = [thing(8, 6, 20, 16)]
    folder.add("gray.png", noise(48, 64).convert("L"), upright)
    folder.add("rgba.png", noise(48, 64).convert("RGBA"), upright)
    folder.add("cmyk.jpg", noise(48, 64).convert("CMYK"), upright)
    folder.add("palette.gif", noise(48, 64).convert("P"), upright)
    deep = np.arange(48 * 64, dtype=np.uint16).reshape(48, 64) * 20
    folder.add("deep.png", Image.fromarray(deep), upright)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees: the file is 64 x 48, the picture 48 x 64
    folder.add("turned.jpg", noise(64, 48), upright, size=(48, 64), exif=exif)
    folder.add("dot.png", noise(1, 1), [thing(0, 0, 1, 1)])
    folder.add("strip.png", noise(30, 4000), [thing(100, 5, 900, 20)])
    crowded = [
        thing(2 + 9 * column, 2 + 9 * row, 7, 7, category_id=9)
        for row in range(15)
        for column in range(20)
    ]
    folder.add("crowded.png", noise(140, 184), crowded)


def add_masks(folder: CocoFolder) -> None:
    """Adds every kind of annotation, of two kinds in one picture where they must not mix."""
    good = thing(8, 6, 20, 16)
    line, point = [1, 1, 9, 9], [3, 3]
    folder.add(
        "short.png",
        noise(48, 64),
        [
            thing(1, 1, 8, 8, segmentation=[line]),
            thing(3, 3, 1, 1, segmentation=[point]),
            {**good, "segmentation": [*good["segmentation"], line]},
        ],
    )
    folder.add("outside.png", noise(48, 64), [thing(-10, -8, 30, 20), thing(50, 40, 30, 30)])
    mask = box_mask(48, 64, 8, 6, 20, 16)
    for name, compressed in (("rle.png", True), ("counts.png", False)):
        annotation = thing(8, 6, 20, 16, segmentation=rle(mask, compressed=compressed))
        folder.add(name, noise(48, 64), [annotation])
    misfit = rle(box_mask(50, 60, 8, 6, 20, 16), compressed=True)
    folder.add("misfit.png", noise(48, 64), [good, thing(8, 6, 20, 16, segmentation=misfit)])
    crowd = rle(box_mask(48, 64, 30, 20, 30, 20), compressed=False)
    folder.add(
        "crowd.png", noise(48, 64), [good, thing(30, 20, 30, 20, segmentation=crowd, iscrowd=1)]
    )
    bare = thing(20, 20, 9, 9)
    del bare["segmentation"]
    folder.add("bare.png", noise(48, 64), [good, bare])
    folder.add("empty.png", noise(48, 64), [])


# Objects that training sees in each picture.
EXPECTED = {
    **dict.fromkeys(("gray", "rgba", "cmyk", "palette", "deep", "turned", "dot", "strip"), 1),
    **{"crowded": 300, "short": 1, "outside": 2, "rle": 1, "counts": 1, "misfit": 1, "crowd": 1},
    **{"bare": 1, "empty": 0},
}


class Run(NamedTuple):
    folder: CocoFolder
    output: Path
    losses: list[dict[str, float]]
    objects: dict[str, int]
    log: list[str]


class _Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def train_on(folder: CocoFolder, output: Path, name: str, *opts: Any) -> Run:
    """Trains one epoch on a dataset, evaluates on it twice, and returns what was seen."""
    seed_all_rng(0)
    images = len(folder.content["images"])
    batch = 2 if images > 1 else 1
    cfg = run_cfg(
        name,
        output,
        *("SOLVER.MAX_ITER", -(-images // batch), "SOLVER.IMS_PER_BATCH", batch),
        *("TEST.EVAL_PERIOD", 5, "DATALOADER.FILTER_EMPTY_ANNOTATIONS", False),
        *("DATALOADER.ASPECT_RATIO_GROUPING", False, "SOLVER.BASE_LR", 1e-3, *opts),
        test=name,
    )
    output.mkdir()
    handler = _Lines()
    loggers = [logging.getLogger(package) for package in ("solo_family", "detectron2")]
    for logger in loggers:
        logger.addHandler(handler)
    losses, objects = [], {}

    def record(trainer: Any) -> None:
        latest = trainer.storage.latest()
        losses.append({k: v for k, (v, _) in latest.items() if k.startswith("loss_")})
        for item in trainer._trainer.last_batch:
            objects[Path(item["file_name"]).stem] = len(item["instances"])

    try:
        trainer = Trainer(cfg)
        trainer.register_hooks([CallbackHook(after_step=record)])
        trainer.train()
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
    return Run(folder, output, losses, objects, handler.lines)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> CocoFolder:
    folder = CocoFolder(tmp_path_factory.mktemp("unusual") / "data", CATEGORIES)
    add_pictures(folder)
    add_masks(folder)
    folder.write()
    return folder


@pytest.fixture(scope="module")
def run(folder: CocoFolder) -> Run:
    return train_on(folder, folder.root.parent / "run", folder.name)


def test_every_picture_is_trained_on_with_its_objects(run: Run) -> None:
    assert run.objects == EXPECTED
    assert all(math.isfinite(value) for step in run.losses for value in step.values())
    assert len(run.losses) == 9
    assert (run.output / "model_final.pth").is_file()


def test_every_picture_is_evaluated_in_the_datasets_ids(run: Run) -> None:
    results = json.loads((run.output / "inference/coco_instances_results.json").read_text())
    assert results
    assert {result["category_id"] for result in results} <= set(CATEGORIES)
    images = {image["id"]: image for image in run.folder.content["images"]}
    assert len({result["image_id"] for result in results}) >= len(images) - 2
    for result in results:
        image = images[result["image_id"]]
        assert result["segmentation"]["size"] == [image["height"], image["width"]]
    metrics = [json.loads(line) for line in (run.output / "metrics.json").read_text().splitlines()]
    assert 0 <= metrics[-1]["segm/AP"] <= 100


@pytest.mark.parametrize(
    "message",
    [
        "dropped 3 polygons of fewer than 3 points.",
        "dropped 1 annotations without 'segmentation'.",
        "dropped 1 RLE masks whose size is not their image's: [50, 60] in ",
    ],
)
def test_what_is_left_out_is_counted_and_said_once(run: Run, message: str) -> None:
    lines = [line for line in run.log if message in line]
    # Though the dataset was read for training and for two evaluations, twice in each.
    assert len(lines) == 1
    assert lines[0].startswith(str(run.folder.json))
    if "RLE" in message:
        assert "misfit.png" in lines[0]


def test_masks_and_classes_are_those_of_the_json(folder: CocoFolder) -> None:
    cfg = run_cfg(folder.name, folder.root, "INPUT.MIN_SIZE_TRAIN", (0,))
    mapper = MaskDatasetMapper(cfg, is_train=True)
    items = {Path(r["file_name"]).stem: mapper(r) for r in DatasetCatalog.get(folder.name)}
    expected = torch.from_numpy(box_mask(48, 64, 8, 6, 20, 16))
    usual = ("gray", "rgba", "cmyk", "palette", "deep", "turned")
    for name in (*usual, "short", "rle", "counts", "misfit", "crowd", "bare"):
        masks = items[name]["instances"].gt_masks.tensor
        assert torch.equal(masks[0], expected), name
        assert items[name]["instances"].gt_classes.tolist() == [1], name
        assert items[name]["image"].shape == (3, 48, 64), name
    corners = items["outside"]["instances"]
    assert torch.equal(
        corners.gt_masks.tensor,
        torch.from_numpy(
            np.stack([box_mask(48, 64, 0, 0, 20, 12), box_mask(48, 64, 50, 40, 14, 8)])
        ),
    )
    assert corners.gt_boxes.tensor.tolist() == [[0, 0, 20, 12], [50, 40, 64, 48]]
    assert items["dot"]["instances"].gt_masks.tensor.tolist() == [[[True]]]
    crowded = items["crowded"]["instances"]
    assert Counter(crowded.gt_classes.tolist()) == {2: 300}
    assert torch.equal(crowded.gt_masks.tensor.sum(dim=(1, 2)), torch.full((300,), 49))


def test_deep_pictures_keep_their_shades_and_turned_ones_are_upright(folder: CocoFolder) -> None:
    cfg = run_cfg(folder.name, folder.root, "INPUT.MIN_SIZE_TEST", 0)
    mapper = MaskDatasetMapper(cfg, is_train=False)
    images = {
        Path(record["file_name"]).stem: mapper(record)["image"]
        for record in DatasetCatalog.get(folder.name)
    }
    deep = images["deep"][0].int()
    assert deep[0, 0] == 0
    assert deep[-1, -1] == (48 * 64 - 1) * 20 // 257
    stored = torch.from_numpy(np.asarray(Image.open(folder.root / "images" / "turned.jpg")).copy())
    # Orientation 6: the first row of the file is the right-hand column of the picture.
    assert torch.equal(images["turned"], stored.permute(2, 0, 1).flip(1).transpose(1, 2))


@pytest.mark.slow
def test_a_registered_dataset_is_treated_alike(folder: CocoFolder) -> None:
    name = f"unusual_{folder.root.parent.name}"
    register_coco_instances(name, {}, str(folder.json), str(folder.root / "images"))
    run = train_on(folder, folder.root.parent / "registered", name)
    assert run.objects == EXPECTED


def test_one_class_and_one_image(tmp_path: Path) -> None:
    folder = CocoFolder(tmp_path / "data", {3: "thing"})
    folder.add("only.png", noise(48, 64), [thing(8, 6, 20, 16, category_id=3)])
    run = train_on(folder, tmp_path / "run", folder.write(), "SOLVER.IMS_PER_BATCH", 2)
    assert run.objects == {"only": 1}
    results = json.loads((run.output / "inference/coco_instances_results.json").read_text())
    assert {result["category_id"] for result in results} == {3}


def test_hardly_any_object(tmp_path: Path) -> None:
    folder = CocoFolder(tmp_path / "data", CATEGORIES)
    for index in range(5):
        objects = [] if index else [rectangle(5, 5, 20, 20, category_id=5)]
        folder.add(f"{index}.png", noise(48, 64), objects)
    run = train_on(folder, tmp_path / "run", folder.write())
    assert run.objects == {"0": 1, "1": 0, "2": 0, "3": 0, "4": 0}
    assert all(math.isfinite(value) for step in run.losses for value in step.values())
