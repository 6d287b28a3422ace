"""What `check-data` says of crowded images, against counting by hand."""

import torch

from solo_family.cli.crowding import count_shared, describe_crowding
from solo_family.data.checks.dataset_check import DatasetCheck

from ..conftest import tiny_cfg

OPTS = [
    *("INPUT.MIN_SIZE_TRAIN", (128,), "INPUT.MAX_SIZE_TRAIN", 256),
    *("MODEL.SOLOV2.NUM_GRIDS", [8, 4, 2, 1, 1]),
    *("MODEL.SOLOV2.FPN_SCALE_RANGES", ((1, 24), (20, 48), (500, 501), (600, 601), (700, 701))),
]


def check_of(boxes: dict[str, list[list[float]]], empty: int = 0, side: int = 128) -> DatasetCheck:
    check = DatasetCheck(num_images=len(boxes) + empty)
    for name, given in boxes.items():
        for x0, y0, x1, y1 in given:
            check.boxes.append([x0, y0, x1, y1])
            check.images.append(name)
            check.image_sizes.append((side, side))
            check.areas.append(int((x1 - x0) * (y1 - y0)))
    return check


def square(x: float, y: float, side: float) -> list[float]:
    return [x - side / 2, y - side / 2, x + side / 2, y + side / 2]


def test_objects_per_image() -> None:
    images = {f"{count}.png": [square(60, 60, 10)] * count for count in range(1, 100)}
    lines = describe_crowding(check_of(images, empty=1), None).splitlines()
    # Of the numbers 0 to 99, 50 are 49 or less, and 99 are 98 or less.
    assert lines == ["objects per image: median 49, 99 % 98, most 99"]


def test_without_a_config_more_objects_than_models_return_by_default_are_named() -> None:
    images = {f"{count}.png": [square(60, 60, 10)] * count for count in (100, 101, 300)}
    said = describe_crowding(check_of(images), None)
    assert "images with more than 100 objects: 2." in said
    assert "TEST.DETECTIONS_PER_IMAGE" in said
    assert "--config-file" in said


def test_objects_without_a_cell_for_themselves() -> None:
    """Cells of 16 pixels on the first level, of 32 on the second."""
    near = [square(20, 20, 10), square(27, 27, 10), square(36, 20, 10)]
    # Of the size of both levels: together on the second alone, and so still to be told apart.
    both = [square(70, 70, 22), square(90, 70, 22)]
    check = check_of({"a.png": near + both, "b.png": [square(20, 20, 10)]})
    keys = tiny_cfg("SOLOv2", opts=OPTS).MODEL.SOLOV2
    sizes = torch.tensor(check.image_sizes).float()
    assert count_shared(check, sizes, keys, [8, 4, 2, 1, 1]) == 2
    assert count_shared(check, sizes, keys, [16, 8, 4, 2, 2]) == 0
    # At twice the size both larger ones leave the first level, for cells of 64 on the second.
    assert count_shared(check, 2 * sizes, keys, [8, 4, 2, 1, 1]) == 4
    keys = tiny_cfg("SOLOv2", opts=[*OPTS, "MODEL.SOLOV2.GRID_REFERENCE_SIZE", (64, 64)])
    assert count_shared(check, sizes, keys.MODEL.SOLOV2, [8, 4, 2, 1, 1]) == 0
    said = describe_crowding(check, tiny_cfg("SOLOv2", opts=OPTS))
    assert "at 128 px: 2 objects share the cell of their centre with another" in said
    assert "with MODEL.SOLOV2.NUM_GRIDS [12, 6, 3, 2, 2] 0 do." in said


def test_small_objects_and_the_keys_that_help() -> None:
    check = check_of({"a.png": [square(20, 20, 3), square(60, 60, 10), square(99, 99, 40)]})
    said = describe_crowding(check, tiny_cfg("SOLOv2", opts=OPTS))
    assert "at 128 px: 1 objects are smaller than the mask stride, 4 pixels" in said
    assert "INPUT.MIN_SIZE_TRAIN and MIN_SIZE_TEST 256" in said
    assert "MAX_SIZE_TRAIN and MAX_SIZE_TEST 512 0 are." in said
    # 3 x 3 and 10 x 10 pixels are 0.6 and 6.2 pixels of a mask.
    assert "MODEL.SOLOV2.AREA_FILTER drops masks of 8 pixels or fewer, 2 of these" in said
    opts = [*OPTS, "MODEL.SOLOV2.AREA_FILTER", False]
    assert "AREA_FILTER" not in describe_crowding(check, tiny_cfg("SOLOv2", opts=opts))


def test_more_objects_than_the_model_returns() -> None:
    check = check_of({"a.png": [square(60, 60, 10)] * 101})
    assert "a.png has 101 objects" in describe_crowding(check, tiny_cfg("SparseInst", opts=OPTS))


def test_images_that_are_larger_than_in_training_need_tiles() -> None:
    check = check_of({"large.png": [square(500, 500, 40)], "small.png": []}, side=1000)
    opts = [*OPTS, "INPUT.MIN_SIZE_TEST", 0, "INPUT.CROP.AROUND_OBJECTS", (256, 256)]
    told = "1 images have 1000 pixels on their longer side at inference, those of training 128: "
    advice = "predict by tiles, TEST.TILE.SIZE 256 and TEST.TILE.OVERLAP 40"
    assert told + advice in describe_crowding(check, tiny_cfg("SOLOv2", opts=opts))
    for other in (
        ("TEST.TILE.SIZE", 256),  # as the advice says
        ("INPUT.MIN_SIZE_TEST", 128, "INPUT.MAX_SIZE_TEST", 192),
        ("INPUT.CROP.AROUND_OBJECTS", (), "INPUT.MIN_SIZE_TRAIN", (0,)),
    ):
        cfg = tiny_cfg("SOLOv2", opts=[*opts, *other])
        assert "predict by tiles" not in describe_crowding(check, cfg)
