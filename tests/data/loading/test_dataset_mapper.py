"""From annotations to the masks, boxes and classes that training sees."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.structures import BitMasks, BoxMode
from PIL import Image
from pycocotools import mask as mask_util
from pycocotools.coco import COCO

from solo_family.data.loading.dataset_mapper import MaskDatasetMapper
from solo_family.data.loading.mappers import build_train_mapper

from ...conftest import tiny_cfg, tiny_model
from ..coco import HEIGHT, WIDTH, counts, polygon, rectangle, write_dataset

CORNERS = [(10, 20, 30, 50), (5, 60, 60, 90), (33, 3, 50, 41)]
# A little larger than the mask: what the annotator drew, not what the mask's pixels give.
BOXES = [[19.5, 9.5, 31, 21], [59.5, 4.5, 31, 56], [2.5, 32.5, 39, 18]]
AS_IS = [
    "INPUT.MIN_SIZE_TRAIN",
    (HEIGHT,),
    "INPUT.RANDOM_FLIP",
    "none",
    "INPUT.MAX_SIZE_TRAIN",
    WIDTH,
]


def segmentation(form: str, corners: tuple[int, int, int, int]) -> Any:
    mask = rectangle(*corners)
    if form == "polygon":
        return polygon(*corners)
    if form == "counts":
        return {"size": [HEIGHT, WIDTH], "counts": counts(mask)}
    rle = mask_util.encode(np.asfortranarray(mask, np.uint8))
    return {"size": rle["size"], "counts": rle["counts"].decode()}


def annotate(form: str, corners: tuple[int, int, int, int], box: list[float], **more: Any) -> dict:
    content = {"image_id": 1, "category_id": 7, "bbox": box}
    return content | {"segmentation": segmentation(form, corners)} | more


def load(root: Path, annotations: list[dict[str, Any]], cfg: CfgNode | None = None) -> list[dict]:
    cfg = cfg or tiny_cfg(opts=AS_IS)
    records = DatasetCatalog.get(write_dataset(root, annotations))
    return [MaskDatasetMapper(cfg, is_train=True)(record) for record in records]


@pytest.mark.parametrize("form", ["polygon", "counts", "rle"])
def test_masks_boxes_and_classes(tmp_path: Path, form: str) -> None:
    annotations = [annotate(form, corners, box) for corners, box in zip(CORNERS, BOXES)]
    annotations[2]["category_id"] = 3
    cfg = tiny_cfg(opts=[*AS_IS, "MODEL.MASK_ON", False, "INPUT.MASK_FORMAT", "polygon"])
    instances = load(tmp_path, annotations, cfg)[0]["instances"]
    assert isinstance(instances.gt_masks, BitMasks)
    expected = np.stack([rectangle(*corners) for corners in CORNERS])
    assert np.array_equal(instances.gt_masks.tensor.numpy(), expected)
    assert instances.gt_classes.tolist() == [1, 1, 0]
    corners_of_boxes = [[x, y, x + w, y + h] for x, y, w, h in BOXES]
    # The last box is cut at the image's edge, if at all.
    assert instances.gt_boxes.tensor.tolist() == corners_of_boxes


def test_several_forms_in_one_image(tmp_path: Path) -> None:
    forms = ["rle", "polygon", "counts"]
    annotations = [annotate(*parts) for parts in zip(forms, CORNERS, BOXES)]
    masks = load(tmp_path, annotations)[0]["instances"].gt_masks.tensor
    assert np.array_equal(masks.numpy(), np.stack([rectangle(*corners) for corners in CORNERS]))


def test_crowds_are_left_out(tmp_path: Path) -> None:
    annotations = [
        annotate("counts", CORNERS[0], BOXES[0], iscrowd=1),
        annotate("polygon", CORNERS[1], BOXES[1]),
        annotate("rle", CORNERS[2], BOXES[2], iscrowd=1, image_id=2),
    ]
    first, second = load(tmp_path, annotations)
    assert np.array_equal(first["instances"].gt_masks.tensor[0].numpy(), rectangle(*CORNERS[1]))
    assert (len(first["instances"]), len(second["instances"])) == (1, 0)


def test_images_without_annotations_train(tmp_path: Path) -> None:
    crowd = annotate("counts", CORNERS[0], BOXES[0], iscrowd=1)
    items = load(tmp_path, [crowd])
    assert [len(item["instances"]) for item in items] == [0, 0]
    losses = tiny_model()(items)
    assert all(loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()


def test_resizing_moves_masks_and_boxes_together(tmp_path: Path) -> None:
    cfg = tiny_cfg(
        opts=[*AS_IS, "INPUT.MIN_SIZE_TRAIN", (2 * HEIGHT,), "INPUT.MAX_SIZE_TRAIN", 999]
    )
    item = load(tmp_path, [annotate("rle", CORNERS[0], BOXES[0])], cfg)[0]
    assert item["image"].shape == (3, 2 * HEIGHT, 2 * WIDTH)
    assert item["image"].dtype == torch.uint8
    expected = rectangle(*CORNERS[0]).repeat(2, axis=0).repeat(2, axis=1)
    assert np.array_equal(item["instances"].gt_masks.tensor[0].numpy(), expected)
    assert item["instances"].gt_boxes.tensor.tolist() == [[39, 19, 101, 61]]


@pytest.mark.parametrize("size", [[0.5, 0.6], [1.0, 0.3]])
def test_cropped_polygons_are_cropped_masks(tmp_path: Path, size: list[float]) -> None:
    opts = ["INPUT.CROP.ENABLED", True, "INPUT.CROP.TYPE", "relative", "INPUT.CROP.SIZE", size]
    mapper = MaskDatasetMapper(tiny_cfg(opts=[*AS_IS, "INPUT.MIN_SIZE_TRAIN", (0,), *opts]), True)
    everywhere = [
        Image.fromarray(np.tile(np.arange(WIDTH, dtype=np.uint8), (HEIGHT, 1))),
        Image.fromarray(np.tile(np.arange(HEIGHT, dtype=np.uint8)[:, None], (1, WIDTH))),
    ]
    records = {}
    for form in ("polygon", "rle"):
        annotations = [annotate(form, corners, box) for corners, box in zip(CORNERS, BOXES)]
        (records[form], _) = DatasetCatalog.get(write_dataset(tmp_path / form, annotations))
        # Its pixels say where they are from: the column, the row, nothing.
        place = Image.merge("RGB", [*everywhere, Image.new("L", (WIDTH, HEIGHT))])
        place.save(records[form]["file_name"])
    for seed in range(10):
        for record in records.values():
            np.random.seed(seed)
            item = mapper(record)
            xs, ys = item["image"][0].numpy(), item["image"][1].numpy()
            expected = [rectangle(*corners)[ys, xs] for corners in CORNERS]
            masks = item["instances"].gt_masks.tensor.numpy()
            assert np.array_equal(masks, np.stack([mask for mask in expected if mask.any()]))


@pytest.mark.parametrize("key", ["INPUT.LSJ.ENABLED", "INPUT.CROP.ENABLED"])
def test_crops_of_images_without_objects_train(tmp_path: Path, key: str) -> None:
    crowd = annotate("counts", CORNERS[0], BOXES[0], iscrowd=1)
    items = load(tmp_path, [crowd], tiny_cfg(opts=[key, True, "INPUT.LSJ.IMAGE_SIZE", 64]))
    assert [len(item["instances"]) for item in items] == [0, 0]
    assert all(loss.isfinite() for loss in tiny_model()(items).values())


def lsj_cfg(flip: str = "none") -> CfgNode:
    return tiny_cfg(
        opts=[
            *("INPUT.LSJ.ENABLED", True, "INPUT.LSJ.IMAGE_SIZE", 128, "INPUT.RANDOM_FLIP", flip),
            *("INPUT.LSJ.MIN_SCALE", 0.3, "INPUT.LSJ.MAX_SCALE", 3.0),
        ]
    )


def test_large_scale_jitter_gives_one_size_and_boxes_of_what_is_left(tmp_path: Path) -> None:
    np.random.seed(0)  # detectron2's augmentations draw from numpy's global generator
    annotations = [annotate("polygon", corners, box) for corners, box in zip(CORNERS, BOXES)]
    record = DatasetCatalog.get(write_dataset(tmp_path, annotations))[0]
    mapper = MaskDatasetMapper(lsj_cfg("horizontal"), is_train=True)
    widths, counts_left = set(), set()
    for _ in range(20):
        item = mapper(dict(record))
        instances = item["instances"]
        assert item["image"].shape == (3, 128, 128)
        assert instances.image_size == (128, 128)
        assert instances.gt_masks.tensor.shape == (len(instances), 128, 128)
        counts_left.add(len(instances))
        for mask, box in zip(instances.gt_masks.tensor, instances.gt_boxes.tensor.tolist()):
            ys, xs = mask.nonzero(as_tuple=True)
            assert box == [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
            widths.add(box[2] - box[0])
    assert len(widths) > 20
    assert len(counts_left) > 1
    assert all(loss.isfinite() for loss in tiny_model()([item]).values())


def test_inference_keeps_the_picture_and_needs_no_annotations(tmp_path: Path) -> None:
    record = DatasetCatalog.get(write_dataset(tmp_path, []))[0]
    cfg = tiny_cfg(opts=["INPUT.MIN_SIZE_TEST", 32, "INPUT.LSJ.ENABLED", True])
    item = MaskDatasetMapper(cfg, is_train=False)(record)
    assert item["image"].shape == (3, 32, 48)
    assert (item["height"], item["width"]) == (HEIGHT, WIDTH)
    assert "instances" not in item


def test_real_pictures_with_a_crowd_and_without_objects(data_root: Path) -> None:
    """A dozen of COCO val2017, against pycocotools' own masks."""
    root = data_root / "coco_union"
    annotations = root / "annotations" / "instances_val2017.json"
    records = DatasetCatalog.get(f"coco_json:{annotations}:{root}/images")
    coco = COCO(str(annotations))
    crowded = [r for r in records if any(a["iscrowd"] for a in r["annotations"])]
    empty = [r for r in records if not r["annotations"]]
    rest = [r for r in records if r not in crowded and r not in empty]
    cfg = tiny_cfg(
        num_classes=80,
        opts=["INPUT.MIN_SIZE_TRAIN", (0,), "INPUT.RANDOM_FLIP", "none", "INPUT.FORMAT", "BGR"],
    )
    mapper = MaskDatasetMapper(cfg, is_train=True)
    for record in crowded[:2] + empty[:2] + rest[:8]:
        item = mapper(record)
        instances = item["instances"]
        expected = [
            coco.annToMask(annotation)
            for annotation in coco.imgToAnns[record["image_id"]]
            if not annotation["iscrowd"]
        ]
        assert item["image"].shape == (3, record["height"], record["width"])
        assert len(instances) == len(expected)
        for mask, reference in zip(getattr(instances, "gt_masks", []), expected):
            # detectron2 rasterises polygons as pycocotools does.
            assert np.array_equal(mask.numpy(), reference.astype(bool))
        if record in rest:
            assert instances.gt_classes.min() >= 0
            assert instances.gt_classes.max() < 80
            assert len(instances)


@pytest.mark.parametrize("kind", ["polygon", "rle"])
def test_what_jitter_pads_belongs_to_no_mask(tmp_path: Path, kind: str) -> None:
    Image.fromarray(np.zeros((60, 80, 3), np.uint8)).save(tmp_path / "0.png")
    mask = np.zeros((60, 80), np.uint8, order="F")
    mask[10:20, 10:30] = 1
    outline = [[10, 10, 30, 10, 30, 20, 10, 20]]
    annotation = {
        "segmentation": outline if kind == "polygon" else mask_util.encode(mask),
        **{"bbox": [10, 10, 20, 10], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 0},
    }
    keys = ["INPUT.LSJ.ENABLED", True, "INPUT.LSJ.IMAGE_SIZE", 128, "INPUT.RANDOM_FLIP", "none"]
    keys += ["INPUT.LSJ.MIN_SCALE", 0.3, "INPUT.LSJ.MAX_SCALE", 0.3]
    mapper = MaskDatasetMapper(tiny_cfg(opts=keys), is_train=True, num_images=1)
    record = {"file_name": str(tmp_path / "0.png"), "height": 60, "width": 80, "image_id": 1}
    mapped = mapper(record | {"annotations": [annotation]})
    assert mapped is not None
    (pixels,) = mapped["instances"].gt_masks.tensor.flatten(1).sum(1).tolist()
    # To 128 / 80 x 0.3 of its sides.
    assert pixels == pytest.approx(200 * (128 / 80 * 0.3) ** 2, rel=0.15)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("INPUT.SIZE_DIVISIBILITY", 32),
        ("INPUT.CROP.SINGLE_CATEGORY_MAX_AREA", 0.75),
        ("INPUT.LABEL_SAMPLING", "corner"),
    ],
)
def test_keys_of_label_pictures_are_warned_of(
    caplog: pytest.LogCaptureFixture, key: str, value: Any
) -> None:
    build_train_mapper(tiny_cfg(opts=[key, value]), [{"file_name": "a.jpg"}])
    assert f"{key} is {value!r}, but does nothing with labels of instances." in caplog.text
    caplog.clear()
    build_train_mapper(tiny_cfg(), [{"file_name": "a.jpg"}])
    assert "does nothing" not in caplog.text
