"""From label images to masks: semantic and panoptic, with everything that goes wrong in files."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from PIL import Image

from solo_family.data.formats.label_maps import decode_ids, encode_ids, read_labels
from solo_family.data.formats.register import register_in_place
from solo_family.data.loading.loader import build_train_loader, build_train_mapper
from solo_family.errors import ConfigError, DataError

from ...conftest import tiny_cfg, tiny_model
from ..segments import HEIGHT, WIDTH, write_panoptic, write_semantic

AS_IS = [
    *("INPUT.MIN_SIZE_TRAIN", (HEIGHT,), "INPUT.MAX_SIZE_TRAIN", WIDTH),
    *("INPUT.RANDOM_FLIP", "none", "INPUT.FORMAT", "RGB"),
]


def semantic_cfg(name: str, opts: tuple = ()) -> CfgNode:
    return tiny_cfg("MaskFormer", 0, [*AS_IS, "DATASETS.TRAIN", (name,), *opts])


def labels_of(item: dict[str, Any], void: int = 255) -> np.ndarray:
    """Puts the masks of an item together again."""
    instances = item["instances"]
    labels = np.full(instances.image_size, void)
    for mask, label in zip(instances.gt_masks.tensor.numpy(), instances.gt_classes.tolist()):
        assert mask.any()
        assert (labels[mask] == void).all()
        labels[mask] = label
    return labels


def load(name: str, opts: tuple = (), seed: int = 0) -> list[dict[str, Any]]:
    np.random.seed(seed)
    cfg = semantic_cfg(name, opts)
    register_in_place([name])
    records = DatasetCatalog.get(name)
    mapper = build_train_mapper(cfg, records)
    return [mapper(record) for record in records]


def test_one_mask_per_class_present(tmp_path: Path) -> None:
    name = write_semantic(tmp_path)
    for index, item in enumerate(load(name)):
        truth = np.asarray(Image.open(tmp_path / "labels" / f"{index}.png"))
        assert torch.equal(item["sem_seg"], torch.from_numpy(truth.astype(np.int64)))
        np.testing.assert_array_equal(labels_of(item), truth)
        assert item["instances"].gt_classes.tolist() == sorted(set(np.unique(truth)) - {255})
        assert item["image"].shape == (3, HEIGHT, WIDTH)
        assert item["image"].dtype == torch.uint8


def test_one_mask_per_segment_without_crowds(tmp_path: Path) -> None:
    name, ids, listed = write_panoptic(tmp_path)
    for index, item in enumerate(load(name)):
        instances = item["instances"]
        kept = [segment for segment in listed[index] if not segment["iscrowd"]]
        # Categories 3, 5, 9 of the file are classes 0, 1, 2.
        assert instances.gt_classes.tolist() == [[3, 5, 9].index(s["category_id"]) for s in kept]
        for mask, segment in zip(instances.gt_masks.tensor.numpy(), kept):
            np.testing.assert_array_equal(mask, ids[index] == segment["id"])
        crowd = next(s["id"] for s in listed[index] if s["iscrowd"])
        assert (item["sem_seg"].numpy()[ids[index] == crowd] == 255).all()


@pytest.mark.parametrize("bits", [8, 16])
def test_void_of_8_and_of_16_bits(tmp_path: Path, bits: int) -> None:
    name = write_semantic(tmp_path, dtype=np.uint8 if bits == 8 else np.uint16)
    item = load(name)[0]
    truth = np.asarray(Image.open(tmp_path / "labels" / "0.png"))
    void = truth == (255 if bits == 8 else 65535)
    assert void.any()
    np.testing.assert_array_equal(item["sem_seg"].numpy() == 255, void)
    np.testing.assert_array_equal(labels_of(item) == 255, void)


def test_more_than_255_classes(tmp_path: Path) -> None:
    path = tmp_path / "label.png"
    Image.fromarray(np.array([[0, 255, 299, 65535]], np.uint16)).save(path)
    assert read_labels(str(path), 300, 65535).tolist() == [[0, 255, 299, 300]]
    names = ",".join(f"c{index}" for index in range(300))
    name = write_semantic(tmp_path / "data", classes=names, dtype=np.uint16)
    with pytest.raises(ConfigError, match=r"IGNORE_VALUE is 255.*one of the 300.*65535"):
        load(name)
    assert load(name, ("MODEL.SEM_SEG_HEAD.IGNORE_VALUE", 65535))[0]["sem_seg"].max() == 65535


def test_an_image_of_nothing_but_void_has_no_masks_and_trains(tmp_path: Path) -> None:
    name = write_semantic(tmp_path, void_everywhere=True)
    item = load(name)[0]
    assert len(item["instances"]) == 0
    assert item["instances"].gt_masks.tensor.shape == (0, HEIGHT, WIDTH)
    losses = tiny_model("MaskFormer")([item])
    assert all(loss.isfinite() for loss in losses.values())
    # detectron2's SemanticSegmentor wants the label map.
    assert (item["sem_seg"] == 255).all()


def test_labels_of_another_size_are_named(tmp_path: Path) -> None:
    name = write_semantic(tmp_path)
    Image.fromarray(np.zeros((7, 9), np.uint8)).save(tmp_path / "labels" / "1.png")
    with pytest.raises(
        DataError, match=rf"labels/1\.png is 9x7 .*images/1\.png is {WIDTH}x{HEIGHT}"
    ):
        load(name)


MISTAKES = {
    "colours": (np.zeros((HEIGHT, WIDTH, 3), np.uint8), "3 channels"),
    "values": (np.full((HEIGHT, WIDTH), 9, np.uint8), "label 9, but there are 3 classes"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_wrong_labels_are_named(tmp_path: Path, mistake: str) -> None:
    name = write_semantic(tmp_path)
    labels, said = MISTAKES[mistake]
    Image.fromarray(labels).save(tmp_path / "labels" / "1.png")
    with pytest.raises(DataError, match=rf"labels/1\.png has {said}"):
        load(name)


def test_another_label_may_be_ignored(tmp_path: Path) -> None:
    name = write_semantic(tmp_path, void=3, ignore=":3")
    item = load(name)[0]
    truth = np.asarray(Image.open(tmp_path / "labels" / "0.png"))
    np.testing.assert_array_equal(labels_of(item) == 255, truth == 3)


def test_bad_images_are_skipped_and_counted(tmp_path: Path) -> None:
    name = write_semantic(tmp_path)
    (tmp_path / "labels" / "1.png").write_bytes(b"nothing")
    items = load(name, ("DATALOADER.SKIP_BAD_IMAGES", True))
    assert items[1] is None
    assert [item["num_skipped"] for item in items if item] == [0, 1]


def aligned(item: dict[str, Any]) -> float:
    """The share of pixels at which the red of the picture, 50 times the label, fits the label."""
    red = item["image"][0].numpy().astype(int)
    labels = item["sem_seg"].numpy()
    known = labels != 255
    return float((abs(red - 50 * labels)[known] <= 25).mean())


TRANSFORMS = {
    "resized": ("INPUT.MIN_SIZE_TRAIN", (40, 90)),
    "flipped": ("INPUT.RANDOM_FLIP", "horizontal"),
    "cropped": (
        "INPUT.CROP.ENABLED",
        True,
        "INPUT.CROP.TYPE",
        "absolute",
        "INPUT.CROP.SIZE",
        (30, 40),
    ),
    "jittered": ("INPUT.LSJ.ENABLED", True, "INPUT.LSJ.IMAGE_SIZE", 96, "INPUT.LSJ.MIN_SCALE", 0.8),
    "padded": ("INPUT.SIZE_DIVISIBILITY", 64),
}


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("kind", ["semantic", "panoptic"])
def test_labels_follow_the_image(tmp_path: Path, transform: str, kind: str) -> None:
    name = write_semantic(tmp_path) if kind == "semantic" else write_panoptic(tmp_path)[0]
    opts = (*TRANSFORMS[transform], "INPUT.MAX_SIZE_TRAIN", 400)
    for seed in range(3):
        for item in load(name, opts, seed):
            assert item["sem_seg"].shape == item["image"].shape[1:]
            assert item["instances"].image_size == tuple(item["image"].shape[1:])
            assert aligned(item) > 0.93
            if kind == "semantic":
                assert item["instances"].gt_masks.tensor.flatten(1).any(1).all()


def test_segments_that_a_crop_cuts_off_are_kept_or_dropped(tmp_path: Path) -> None:
    name, _, listed = write_panoptic(tmp_path)
    classes = [
        [[3, 5, 9].index(s["category_id"]) for s in segments if not s["iscrowd"]]
        for segments in listed
    ]
    crop = TRANSFORMS["cropped"]
    numbers_of_empty = {"keep": 0, "drop": 0}
    for way, opts in {"keep": (), "drop": ("INPUT.EMPTY_SEGMENTS", "drop")}.items():
        for seed in range(5):
            for item, all_classes in zip(load(name, (*crop, *opts), seed), classes):
                empty = ~item["instances"].gt_masks.tensor.flatten(1).any(1)
                numbers_of_empty[way] += int(empty.sum())
                if way == "keep":
                    assert item["instances"].gt_classes.tolist() == all_classes
    assert numbers_of_empty["keep"] > 5
    assert numbers_of_empty["drop"] == 0
    # An official way of MaskFormer's alone: for an empty mask SparseInst would have no location.
    register_in_place([name])
    cfg = tiny_cfg("SparseInst", 0, [*AS_IS, "DATASETS.TRAIN", (name,), *crop])
    records = DatasetCatalog.get(name)
    mapper = build_train_mapper(cfg, records)
    items = [mapper(record) for record in records * 3]
    assert all(item["instances"].gt_masks.tensor.flatten(1).any(1).all() for item in items)


def test_empty_masks_train(tmp_path: Path) -> None:
    item = load(write_panoptic(tmp_path)[0])[0]
    item["instances"].gt_masks.tensor[1:] = False
    losses = tiny_model("MaskFormer")([item])
    assert all(loss.isfinite() for loss in losses.values())


@pytest.mark.parametrize("sampling", ["", "corner", "center"])
def test_labels_are_resized_as_the_official_mapper_does(tmp_path: Path, sampling: str) -> None:
    name = write_semantic(tmp_path)
    height = 31
    opts = (
        *("INPUT.MIN_SIZE_TRAIN", (height,), "INPUT.MAX_SIZE_TRAIN", 400),
        *("INPUT.LABEL_SAMPLING", sampling),
    )
    offset = 0.5 if sampling == "center" else 0.0
    for index, item in enumerate(load(name, opts)):
        truth = np.asarray(Image.open(tmp_path / "labels" / f"{index}.png")).astype(np.int64)
        width = item["image"].shape[2]
        rows = ((np.arange(height) + offset) * HEIGHT / height).astype(int)
        columns = ((np.arange(width) + offset) * WIDTH / width).astype(int)
        np.testing.assert_array_equal(item["sem_seg"].numpy(), truth[rows][:, columns])


@pytest.mark.parametrize("kind", ["LSJ", "crop"])
def test_255_is_a_class_and_padding_is_none(tmp_path: Path, kind: str) -> None:
    names = ",".join(f"c{index}" for index in range(300))
    name = write_semantic(tmp_path, classes=names, dtype=np.uint16, ignore=":65535")
    for path in (tmp_path / "labels").iterdir():
        labels = np.array(Image.open(path))
        Image.fromarray(np.where(labels == 1, 255, labels)).save(path)
    opts = TRANSFORMS["jittered" if kind == "LSJ" else "cropped"]
    items = load(name, (*opts, "MODEL.SEM_SEG_HEAD.IGNORE_VALUE", 65535))
    assert {int(label) for item in items for label in np.unique(item["sem_seg"])} == {
        *(0, 2, 255, 65535)
    }


def test_padding_is_grey_and_void(tmp_path: Path) -> None:
    item = load(write_semantic(tmp_path), ("INPUT.SIZE_DIVISIBILITY", 64))[0]
    assert item["image"].shape == (3, 64, 128)
    assert (item["image"][:, HEIGHT:] == 128).all()
    assert (item["sem_seg"][:, WIDTH:] == 255).all()
    assert not item["instances"].gt_masks.tensor[:, HEIGHT:].any()
    # A crop that is larger than the divisor is padded to the next multiple of it.
    item = load(write_semantic(tmp_path / "b"), ("INPUT.SIZE_DIVISIBILITY", 50))[0]
    assert item["image"].shape == (3, 50, 100)


def test_a_crop_has_no_class_of_too_large_a_share(tmp_path: Path) -> None:
    name = write_semantic(tmp_path, halves=True)
    crop = TRANSFORMS["cropped"]
    limit = (*crop, "INPUT.CROP.SINGLE_CATEGORY_MAX_AREA", 0.75)

    def shares(opts: tuple) -> list[float]:
        return [
            max(np.unique(item["sem_seg"], return_counts=True)[1]) / item["sem_seg"].numel()
            for seed in range(10)
            for item in load(name, opts, seed)
        ]

    # It gives up after ten tries, so a few crops may have more.
    assert np.mean(np.array(shares(limit)) > 0.75) < 0.1 < np.mean(np.array(shares(crop)) > 0.75)


def test_ssd_colours_change_the_image_only(tmp_path: Path) -> None:
    name = write_semantic(tmp_path)
    plain, coloured = load(name), load(name, ("INPUT.COLOR_AUG_SSD", True))
    assert any(not torch.equal(a["image"], b["image"]) for a, b in zip(plain, coloured))
    assert all(torch.equal(a["sem_seg"], b["sem_seg"]) for a, b in zip(plain, coloured))


def test_detrs_augmentation_crops_every_other_image(tmp_path: Path) -> None:
    name = write_panoptic(tmp_path)[0]
    opts = (
        *("INPUT.DATASET_MAPPER_NAME", "detr_panoptic", "INPUT.MIN_SIZE_TRAIN", (64,)),
        *("INPUT.CROP.ENABLED", True, "INPUT.CROP.TYPE", "absolute_range"),
        *("INPUT.CROP.SIZE", (100, 200), "INPUT.MAX_SIZE_TRAIN", 400),
    )
    ratios = {
        round(item["image"].shape[2] / item["image"].shape[1], 1)
        for seed in range(8)
        for item in load(name, opts, seed)
    }
    assert round(WIDTH / HEIGHT, 1) in ratios
    assert len(ratios) > 3


def test_the_mapper_must_suit_the_dataset(tmp_path: Path) -> None:
    name = write_semantic(tmp_path)
    with pytest.raises(ConfigError, match=r"mask_former_panoptic needs 'pan_seg_file_name'"):
        load(name, ("INPUT.DATASET_MAPPER_NAME", "mask_former_panoptic"))


def test_ids_survive_as_colours() -> None:
    ids = np.array([[0, 1, 255, 256, 2**24 - 1]], np.int32)
    np.testing.assert_array_equal(decode_ids(encode_ids(ids)), ids)


def test_the_loader_gives_batches(tmp_path: Path) -> None:
    name = write_semantic(tmp_path)
    opts = ("SOLVER.IMS_PER_BATCH", 2, "DATALOADER.NUM_WORKERS", 0)
    loader, _ = build_train_loader(semantic_cfg(name, opts))
    batch = next(iter(loader))
    assert [set(item) >= {"image", "instances", "sem_seg"} for item in batch] == [True, True]
