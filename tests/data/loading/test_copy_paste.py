"""Which objects copy-paste takes and from where, and the loader with it for all kinds of labels."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog
from PIL import Image

from solo_family.config import check_config
from solo_family.data.loading.copy_paste import CopyPaste, Objects
from solo_family.data.loading.dataset_mapper import MaskDatasetMapper
from solo_family.data.loading.loader import build_train_loader
from solo_family.data.loading.sampler import Draw
from solo_family.errors import ConfigError

from ...conftest import tiny_cfg, tiny_model
from ..coco import HEIGHT, WIDTH, counts, polygon, rectangle, write_dataset
from ..segments import write_panoptic, write_semantic
from .test_paste import mapped

ON = ["INPUT.COPY_PASTE.ENABLED", True]
AS_IS = ["INPUT.MIN_SIZE_TRAIN", (0,), "INPUT.RANDOM_FLIP", "none", "SOLVER.IMS_PER_BATCH", 1]


def record(index: int, classes: list[int], **more: Any) -> dict[str, Any]:
    return {"index": index, "annotations": [{"category_id": c, **more} for c in classes]}


def taken_from(records: list[dict[str, Any]], index: int, **options: Any) -> list[dict[str, Any]]:
    """Returns the dicts that 300 pastes on an image map."""
    seen: list[dict[str, Any]] = []

    def mapper(one: dict[str, Any]) -> dict[str, Any]:
        seen.append(one)
        return mapped(0, len(one["annotations"]))

    copy_paste = CopyPaste(mapper, Objects("annotations"), records, **options)
    np.random.seed(0)
    for _ in range(300):
        copy_paste(mapped(1, 1), index, records)
    return seen


def test_a_random_choice_of_another_image_s_objects() -> None:
    records = [record(0, [1, 2]), record(1, [3, 4, 5, 6]), record(2, []), record(3, [7])]
    records[1]["annotations"][2]["iscrowd"] = 1
    seen = taken_from(records, 3)
    assert {one["index"] for one in seen} == {0, 1}
    choices = {
        tuple(a["category_id"] for a in one["annotations"]) for one in seen if one["index"] == 1
    }
    assert choices == {(3,), (4,), (6,), (3, 4), (3, 6), (4, 6), (3, 4, 6)}
    assert {len(one["annotations"]) for one in taken_from(records, 3, max_objects=2)} == {1, 2}
    assert len(records[1]["annotations"]) == 4


def test_the_image_itself_only_where_no_other_has_objects() -> None:
    assert {one["index"] for one in taken_from([record(0, []), record(1, [1])], 1)} == {1}
    assert not taken_from([record(0, []), record(1, [1], iscrowd=1)], 0)


def test_the_probability() -> None:
    records = [record(0, [1]), record(1, [1])]
    assert not taken_from(records, 0, prob=0.0)
    assert 40 < len(taken_from(records, 0, prob=0.2)) < 80


def test_images_of_rare_classes_are_taken_by_their_repeat_factors() -> None:
    # Class 9 is in one of 16 images: sqrt(1 / (1 / 16)) = 4 times as often as each of the others.
    records = [record(index, [1]) for index in range(15)] + [record(15, [1, 9])]
    rare = [one["index"] == 15 for one in taken_from(records, 0, repeat_threshold=1.0)]
    assert np.mean(rare) == pytest.approx(4 / 18, abs=0.06)
    assert np.mean([one["index"] == 15 for one in taken_from(records, 0)]) < 0.12


def instances(root: Path) -> str:
    """Three images: a polygon, an RLE and a crowd, and no objects."""
    box = {"bbox": [10, 20, 30, 20], "category_id": 7}
    small, large = (20, 10, 40, 40), (5, 50, 60, 90)
    crowd = {"size": [HEIGHT, WIDTH], "counts": counts(rectangle(*small))}
    rle = {"size": [HEIGHT, WIDTH], "counts": counts(rectangle(*large))}
    annotations = [
        {"image_id": 1, "segmentation": polygon(*small), **box},
        {"image_id": 2, "segmentation": rle, **box, "bbox": [50, 5, 40, 55]},
        {"image_id": 2, "segmentation": crowd, **box, "iscrowd": 1},
    ]
    return write_dataset(root, annotations, images=3)


def load(name: str, method: str, opts: list[Any], draws: list[Draw]) -> list[dict[str, Any]]:
    cfg = tiny_cfg(method, 0, [*AS_IS, "DATASETS.TRAIN", (name,), *ON, *opts])
    check_config(cfg)
    cfg.SEED = 0
    images = build_train_loader(cfg)[0].dataset
    return [images[draw] for draw in draws]


@pytest.mark.parametrize("method", ["SOLOv2", "MaskFormer"])
def test_instances_of_polygons_and_of_rle(tmp_path: Path, method: str) -> None:
    name = instances(tmp_path)
    keep = ["DATALOADER.FILTER_EMPTY_ANNOTATIONS", False, "INPUT.COPY_PASTE.SCALES", (1.0, 1.0)]
    draws = [Draw(index, place, 0) for place, index in enumerate([0, 1, 2] * 4)]
    items = load(name, method, keep, draws)
    files = {index: Image.open(tmp_path / "images" / f"{index + 1}.png") for index in range(3)}
    own = [rectangle(20, 10, 40, 40), rectangle(5, 50, 60, 90)]
    for draw, item in zip(draws, items):
        masks = item["instances"].gt_masks.tensor.numpy()
        pixels = item["image"].numpy().transpose(1, 2, 0)
        here = np.asarray(files[draw.index])
        sources = {0: [1], 1: [0], 2: [0, 1]}[draw.index]
        (source,) = [s for s in sources if any(np.array_equal(own[s], mask) for mask in masks)]
        expected = [own[draw.index]] if draw.index < 2 else []
        # The two don't overlap, and the crowd is no object in either role.
        np.testing.assert_array_equal(masks, np.stack([*expected, own[source]]))
        inside = own[source]
        np.testing.assert_array_equal(pixels[inside], np.asarray(files[source])[inside])
        np.testing.assert_array_equal(pixels[~inside], here[~inside])
    # In any order, as in any process.
    again = load(name, method, keep, draws[::-1])[::-1]
    assert all(torch.equal(a["image"], b["image"]) for a, b in zip(items, again))
    losses = tiny_model(method, 2)([items[0], items[2]])
    assert all(loss.isfinite() for loss in losses.values())


def test_a_mapper_of_one_s_own_maps_both_images(tmp_path: Path) -> None:
    cfg = tiny_cfg("SOLOv2", 0, [*AS_IS, "DATASETS.TRAIN", (instances(tmp_path),), *ON])
    base = MaskDatasetMapper(cfg, is_train=True)
    files = []

    def own(record: dict[str, Any]) -> dict[str, Any] | None:
        files.append(Path(record["file_name"]).stem)
        return base(record)

    item = build_train_loader(cfg, own)[0].dataset[Draw(0, 0, 0)]
    assert files == ["1", "2"]
    assert len(item["instances"]) == 2


def test_the_other_image_is_flipped_and_scaled(tmp_path: Path) -> None:
    name = instances(tmp_path)
    sizes = ["INPUT.MIN_SIZE_TRAIN", (HEIGHT,), "INPUT.MAX_SIZE_TRAIN", WIDTH]
    flip = [*sizes, "INPUT.RANDOM_FLIP", "horizontal", "INPUT.COPY_PASTE.SCALES", (0.5, 1.5)]
    items = load(name, "SOLOv2", flip, [Draw(0, place, 0) for place in range(40)])
    assert {tuple(item["image"].shape) for item in items} == {(3, HEIGHT, WIDTH)}
    heights = {
        int(mask.any(1).sum()) for item in items for mask in item["instances"].gt_masks.tensor[1:]
    }
    assert min(heights) < 40  # 27 to 64 of 64 rows, where it is not cut
    assert max(heights) > 60
    assert len(heights) > 10


@pytest.mark.parametrize("mapper", ["", "detr_panoptic"])
def test_things_of_panoptic_labels(tmp_path: Path, mapper: str) -> None:
    name, ids, listed = write_panoptic(tmp_path)
    opts = ["INPUT.DATASET_MAPPER_NAME", mapper, "INPUT.COPY_PASTE.SCALES", (1.0, 1.0)]
    # Things of another image would cover the same ones of this: it is moved.
    for image, shift in (("1", 7), ("2", 7)):
        for folder in ("images", "panoptic"):
            path = tmp_path / folder / f"{image}.png"
            Image.fromarray(np.roll(np.asarray(Image.open(path)), shift, axis=0)).save(path)
    (item,) = load(name, "MaskFormer", opts, [Draw(0, 3, 0)])
    things = {255: 0, 256: 0, 16: 1}
    moved = {number: np.roll(ids[0] == number, 7, axis=0) for number in things}
    masks, classes = item["instances"].gt_masks.tensor.numpy(), item["instances"].gt_classes
    pasted = {
        number: index
        for index in range(len(masks))
        for number, mask in moved.items()
        if np.array_equal(masks[index], mask)
    }
    assert pasted  # and no stuff and no crowd, since these are all that is not of this image
    covered = np.any([moved[number] for number in pasted], axis=0)
    own = [
        (s, mask)
        for s in listed[0]
        if not s["iscrowd"] and (mask := (ids[0] == s["id"]) & ~covered).any()
    ]
    assert len(masks) == len(own) + len(pasted)
    labels = np.full(covered.shape, 255)
    for (segment, expected), mask in zip(own, masks):
        np.testing.assert_array_equal(mask, expected)
        labels[mask] = [3, 5, 9].index(segment["category_id"])
    for number, index in pasted.items():
        assert classes[index] == things[number]
        labels[moved[number]] = things[number]  # over the crowd, too
    np.testing.assert_array_equal(item["sem_seg"], labels)


def test_semantic_labels_are_refused(tmp_path: Path) -> None:
    name = write_semantic(tmp_path)
    with pytest.raises(ConfigError, match=r"COPY_PASTE.ENABLED is True, but semantic"):
        load(name, "MaskFormer", [], [])
    with pytest.raises(ConfigError, match=r"COPY_PASTE.ENABLED is True, but semantic"):
        load(name, "MaskFormer", ["INPUT.DATASET_MAPPER_NAME", "mask_former_semantic"], [])


def test_an_other_image_that_can_not_be_read_is_skipped_and_counted(tmp_path: Path) -> None:
    name = instances(tmp_path)
    (tmp_path / "images" / "2.png").write_bytes(b"nothing")
    opts = ["DATALOADER.SKIP_BAD_IMAGES", True, "DATALOADER.FILTER_EMPTY_ANNOTATIONS", False]
    items = load(name, "SOLOv2", opts, [Draw(2, place, 0) for place in range(12)])
    counts = [item["num_skipped"] for item in items]
    assert {len(item["instances"]) for item in items} == {0, 1}
    assert 0 < sum(counts) <= sum(not len(item["instances"]) for item in items)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("PROB", 1.5),
        ("MIN_VISIBLE", -0.1),
        ("REPEAT_THRESHOLD", 2.0),
        ("MAX_OBJECTS", 0),
        ("BLEND", -1.0),
        ("SCALES", (1.2, 0.8)),
    ],
)
def test_values_that_can_not_be(key: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"INPUT\.COPY_PASTE\.{key} is .*must be"):
        check_config(tiny_cfg(opts=[f"INPUT.COPY_PASTE.{key}", value]))


def test_catalog_records_stay_as_they_are(tmp_path: Path) -> None:
    name = instances(tmp_path)
    before = str(DatasetCatalog.get(name))
    load(name, "SOLOv2", [], [Draw(0, 0, 0)])
    assert str(DatasetCatalog.get(name)) == before
