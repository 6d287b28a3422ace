"""Recipes for semantic segmentation, for data of all kinds."""

from pathlib import Path
from typing import Any

import pytest

from solo_family.config import setup_cfg
from solo_family.config.rules import get_key
from solo_family.recipe.bases import Base, backbone_base
from solo_family.recipe.choices import Request
from solo_family.recipe.label_fingerprint import LabelFingerprint, Region, describe_regions
from solo_family.recipe.machine import Machine
from solo_family.recipe.semantic_choices import choose_semantic
from solo_family.recipe.write import as_yaml, base_path, write

from .fingerprints import CPU, GPU


def labelled(images: int, size: tuple[int, int], pixels: list[int]) -> LabelFingerprint:
    """Return a fingerprint of equal images, each with so many pixels of each class."""
    regions = [Region(label, count) for label, count in enumerate(pixels) if count]
    names = [f"c{label}" for label in range(len(pixels))]
    return describe_regions([size] * images, [regions] * images, names)


STREETS = [40_000, 45_000, 2000, 40_000, 8000, 20_000, 1500, 1600, 9000, 900, 1200]
# 20 of 847 classes in each image, others in each.
MANY = describe_regions(
    [(512, 683)] * 200,
    [[Region((7 * image + k) % 847, 9000) for k in range(20)] for image in range(200)],
    [f"c{k}" for k in range(847)],
)
DATA = {
    "streets": labelled(60, (360, 480), STREETS),
    "tiny": labelled(100, (32, 48), [700, 400, 60]),
    "huge": labelled(20, (3000, 4000), [6_000_000, 5_000_000]),
    "huge, small class": labelled(20, (3000, 4000), [9_000_000, 900]),
    "huge, 150 classes": labelled(20, (3000, 4000), [80_000] * 150),
    "one image": labelled(1, (300, 400), [60_000, 50_000]),
    "many classes": MANY,
    "a class of few pixels": labelled(50, (480, 640), [300_000, 9]),
    "long": labelled(50, (100, 3000), [200_000, 90_000]),
    "upright": labelled(50, (1280, 720), [400_000, 300_000]),
    "one class": labelled(50, (480, 640), [0, 5000, 0]),
}


def request_of(minutes: float = 20, num_val: int = 20) -> Request:
    val = "semantic:a:b:c" if num_val else ""
    return Request("MaskFormer", "semantic:a:b:c", val, num_val, minutes, "output/my", "semantic")


@pytest.fixture(autouse=True)
def no_weights_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("solo_family.recipe.bases.write_timm_weights", lambda path: path)


def base_of(machine: Machine) -> Base:
    return backbone_base("MaskFormer", machine, Path("/not/written"), "semantic")


def values_of(
    data: LabelFingerprint, machine: Machine = CPU, seconds: float = 0.7, **asked: Any
) -> dict[str, Any]:
    choices = choose_semantic(data, machine, request_of(**asked), base_of(machine), seconds)
    assert len({choice.key for choice in choices}) == len(choices)
    assert all(choice.reason for choice in choices)
    return {choice.key: choice.value for choice in choices}


@pytest.mark.parametrize("machine", [CPU, GPU], ids=["CPU", "GPU"])
@pytest.mark.parametrize("kind", DATA)
def test_every_config_passes_the_checks_and_says_what_was_chosen(
    kind: str, machine: Machine, tmp_path: Path
) -> None:
    base = base_of(machine)
    num_val = 0 if kind == "one image" else 20
    choices = choose_semantic(DATA[kind], machine, request_of(num_val=num_val), base, 0.7)
    path = tmp_path / "my.yaml"
    write(as_yaml(base_path(base.config, path), choices, "head"), path)
    cfg = setup_cfg(str(path))
    assert cfg.MODEL.META_ARCHITECTURE == "MaskFormer"
    assert cfg.MODEL.MASK_FORMER.TEST.SEMANTIC_ON
    # Label pictures can't be repeated by their classes.
    assert cfg.DATALOADER.SAMPLER_TRAIN == "TrainingSampler"
    assert not 0 <= cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE < len(DATA[kind].pixels_of_class)
    for choice in choices:
        assert plain(get_key(cfg, choice.key)) == plain(choice.value), choice.key


def plain(value: Any) -> Any:
    return [plain(part) for part in value] if isinstance(value, list | tuple) else value


def test_streets_get_the_measured_recipe() -> None:
    """configs/benchmarks/Base-CamVid.yaml; its crop of 216 rows is padded to 224."""
    values = values_of(DATA["streets"])
    assert values["INPUT.MIN_SIZE_TRAIN"] == [216, 288, 360, 432]
    assert (values["INPUT.MIN_SIZE_TEST"], values["INPUT.MAX_SIZE_TEST"]) == (360, 480)
    assert values["INPUT.CROP.SIZE"] == [224, 288]
    assert values["INPUT.COLOR_AUG_SSD"] is True
    # But for the queries, which are as many as the classes, and the Dice loss beside them.
    assert values["MODEL.MASK_FORMER.MATCHING"] == "fixed"
    assert values["MODEL.MASK_FORMER.NUM_OBJECT_QUERIES"] == 11
    assert values["MODEL.MASK_FORMER.DICE_WEIGHT"] == 5.0
    assert values["SOLVER.IMS_PER_BATCH"] == 4
    assert values["SOLVER.CLIP_GRADIENTS.CLIP_VALUE"] == 1.0
    assert values["TEST.BEST_METRIC"] == "sem_seg/mIoU"
    assert "TEST.TILE.SIZE" not in values
    assert 1300 <= values["SOLVER.MAX_ITER"] <= 20 * 60 / 0.7


@pytest.mark.parametrize("machine", [CPU, GPU], ids=["CPU", "GPU"])
@pytest.mark.parametrize("kind", DATA)
def test_every_class_can_be_seen_and_crops_fit_images(kind: str, machine: Machine) -> None:
    data, values = DATA[kind], values_of(DATA[kind], machine)
    height, width = data.image_sizes[0]
    window = values.get("TEST.TILE.SIZE", 0)
    part = (window, window) if window else (height, width)
    scale = values["INPUT.MIN_SIZE_TEST"] / min(part)
    if max(part) * scale > values["INPUT.MAX_SIZE_TEST"] + 1:
        scale = values["INPUT.MAX_SIZE_TEST"] / max(part)
    # Two pixels of a mask at stride 4; or the files' own pixels, which have no more to show.
    smallest = min(height for height, _ in data.object_boxes)
    assert smallest * scale >= 7.8 or scale >= 0.999
    largest = values["INPUT.MIN_SIZE_TRAIN"][-1] / min(part)
    for side, crop in zip(part, values["INPUT.CROP.SIZE"]):
        assert 0 < crop < largest * side + 32
        assert crop % 32 == 0
    assert values["INPUT.MAX_SIZE_TRAIN"] >= values["INPUT.MIN_SIZE_TRAIN"][-1]


def test_only_images_that_are_much_larger_than_a_crop_are_cut_into_windows() -> None:
    with_windows = {kind for kind in DATA if "TEST.TILE.SIZE" in values_of(DATA[kind])}
    assert with_windows == {"huge, small class", "huge, 150 classes"}
    values = values_of(DATA["huge, 150 classes"])
    side = values["TEST.TILE.SIZE"]
    assert values["INPUT.CROP.AROUND_OBJECTS"] == [side, side]
    assert 0 < values["TEST.TILE.OVERLAP"] < side <= 3000 / 2
    assert "DATALOADER.CACHE_BYTES" not in values


def test_very_small_images_are_enlarged_and_others_are_not() -> None:
    assert values_of(DATA["tiny"])["INPUT.MIN_SIZE_TEST"] == 64
    assert values_of(labelled(9, (200, 300), [30_000]))["INPUT.MIN_SIZE_TEST"] == 200


def test_more_time_makes_larger_crops_and_more_iterations() -> None:
    def area(machine: Machine, minutes: float) -> int:
        height, width = values_of(DATA["upright"], machine, minutes=minutes)["INPUT.CROP.SIZE"]
        assert height > width
        return height * width

    assert area(CPU, 1) < area(CPU, 20) < area(CPU, 200)
    assert area(GPU, 20) > 3 * area(CPU, 20)
    assert area(Machine(16, 1), 60) < area(Machine(16, 64), 60)
    few, many = (values_of(DATA["upright"], minutes=m)["SOLVER.MAX_ITER"] for m in (20, 200))
    assert many > 3 * few


@pytest.mark.parametrize("minutes", [1, 20, 600])
@pytest.mark.parametrize("seconds", [0.05, 0.7, 20])
@pytest.mark.parametrize("num_val", [0, 20, 5000])
def test_training_and_evaluations_fit_the_minutes(
    minutes: float, seconds: float, num_val: int
) -> None:
    data = DATA["streets"]
    values = values_of(data, seconds=seconds, minutes=minutes, num_val=num_val)
    iterations, period = values["SOLVER.MAX_ITER"], values["TEST.EVAL_PERIOD"]
    assert iterations >= 10
    assert values["SOLVER.WARMUP_ITERS"] < iterations
    if iterations > 10:
        assert iterations * seconds <= 60 * minutes
    if not num_val:
        assert (period, values["TEST.BEST_METRIC"]) == (0, "")
        return
    # An image of 360 x 480 has more pixels than a crop, and inference is a third of an iteration.
    height, width = values["INPUT.CROP.SIZE"]
    crops = values["INPUT.MIN_SIZE_TEST"] ** 2 * 480 / 360 / (height * width)
    evaluations = -(-iterations // period)
    # The metrics of its 173 thousand pixels take 0.09 s.
    taken = evaluations * num_val * (crops * seconds / 4 / 3 + 0.09)
    assert evaluations == 1 or taken <= 1.01 * 60 * minutes / 5


def test_large_images_are_evaluated_less_often() -> None:
    def evaluations(size: tuple[int, int]) -> int:
        values = values_of(labelled(100, size, [200_000]), seconds=0.05, num_val=100)
        return -(-values["SOLVER.MAX_ITER"] // values["TEST.EVAL_PERIOD"])

    assert evaluations((480, 640)) == 4
    assert evaluations((2000, 3000)) == 1  # the metrics of 600 million pixels take 5 minutes


def test_the_image_with_most_classes_has_room() -> None:
    values = values_of(labelled(9, (512, 512), [2000] * 130))
    assert values["MODEL.MASK_FORMER.NUM_OBJECT_QUERIES"] > 130
    assert "MODEL.MASK_FORMER.MATCHING" not in values  # so many queries learn any class
    assert "MODEL.MASK_FORMER.DICE_WEIGHT" not in values  # measured with a query for each class


def test_trained_weights_keep_queries_and_colours_and_learn_slower() -> None:
    base = Base(Path("config.yaml"), (), is_trained=True)
    choices = choose_semantic(DATA["many classes"], CPU, request_of(), base, 0.7)
    values = {choice.key: choice.value for choice in choices}
    assert not [key for key in values if key.endswith(("QUERIES", "COLOR_AUG_SSD"))]
    assert values["SOLVER.BASE_LR"] < values_of(DATA["many classes"])["SOLVER.BASE_LR"]


def test_the_same_data_and_machine_give_the_same_text_of_some_30_lines() -> None:
    def text() -> str:
        choices = choose_semantic(DATA["streets"], CPU, request_of(), base_of(CPU), 0.7)
        return as_yaml("base.yaml", choices, "head")

    assert text() == text()
    assert 25 <= len(text().splitlines()) <= 60


def test_the_fingerprint_counts_pixels() -> None:
    regions = [[Region(0, 100), Region(2, 400)], [Region(0, 900)], []]
    data = describe_regions([(40, 50)] * 3, regions, ["sky", "sea", "sun"])
    assert data.pixels_of_class == {"sky": 1000, "sea": 0, "sun": 400}
    assert data.images_of_class == {"sky": 2, "sea": 0, "sun": 1}
    assert data.sides_of_class == {"sky": 20.0, "sun": 20.0}
    assert data.objects_per_image.tolist() == [2, 1, 0]
    assert data.unlabelled == pytest.approx(4600 / 6000)
    assert data.contents == (
        "3 regions, at most 2 in an image; 2 of 3 classes occur, the rarest, sun, in 28.6% of the "
        "pixels; 76.7% of the pixels have no class"
    )
