"""The choices of a recipe, for data of all kinds."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from solo_family import METHODS
from solo_family.config import setup_cfg
from solo_family.config.rules import get_key
from solo_family.recipe.bases import Base, backbone_base
from solo_family.recipe.choices import Request, choose, size_of
from solo_family.recipe.fingerprint import Fingerprint
from solo_family.recipe.machine import Machine, this_machine
from solo_family.recipe.schedule import copy_paste_choices, sampler_choices
from solo_family.recipe.write import as_yaml, base_path, write

from .fingerprints import CPU, DATA, GPU, described


def request_of(method: str = "SOLOv2", minutes: float = 20, num_val: int = 10) -> Request:
    val = "coco_json:val.json:images" if num_val else ""
    return Request(method, "coco_json:train.json:images", val, num_val, minutes, "output/my")


def base_of(method: str, machine: Machine) -> Base:
    return backbone_base(method, machine, Path("/not/written"))


@pytest.fixture(autouse=True)
def no_weights_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("solo_family.recipe.bases.write_timm_weights", lambda path: path)


def values_of(
    data: Fingerprint, machine: Machine = CPU, seconds: float = 1.5, **asked: Any
) -> dict[str, Any]:
    request = request_of(**asked)
    choices = choose(data, machine, request, base_of(request.method, machine), seconds)
    assert len({choice.key for choice in choices}) == len(choices)
    assert all(choice.reason for choice in choices)
    return {choice.key: choice.value for choice in choices}


def resized(data: Fingerprint, short_edge: int, max_size: int, window: int) -> list[float]:
    """Return the side of each object in the network's input, one by one."""
    sides = []
    for (height, width), image in zip(data.object_boxes, data.object_images):
        size = (window, window) if window else data.image_sizes[image]
        factor = short_edge / min(size)
        if factor * max(size) > max_size:
            factor = max_size / max(size)
        sides.append(math.sqrt(height * width) * factor)
    return sides


def test_sparse_inst_begins_with_weights_scaled_to_its_measured_backbone() -> None:
    key = "MODEL.SPARSE_INST.UNIT_INIT"
    assert values_of(DATA["usual"], method="SparseInst")[key] is True
    # Not measured with a ResNet-50, and no key of other methods.
    assert key not in values_of(DATA["usual"], GPU, method="SparseInst")
    assert key not in values_of(DATA["usual"])


def test_cpus_train_in_the_order_and_the_precision_that_are_fast() -> None:
    keys = ("SOLVER.CHANNELS_LAST", "SOLVER.AMP.ENABLED", "SOLVER.AMP.PRECISION")
    data = DATA["usual"]
    for machine, expected in (
        (CPU, [True, None, None]),
        (replace(CPU, bfloat16=True), [True, True, "bfloat16"]),
        (replace(GPU, bfloat16=True), [None, None, None]),
    ):
        values = values_of(data, machine)
        assert [values.get(key) for key in keys] == expected
    # What is evaluated is in float32, which takes longer beside iterations that take the same time.
    few = {"num_val": 100, "seconds": 1.5}
    slower = values_of(data, replace(CPU, bfloat16=True), **few)
    assert slower["SOLVER.MAX_ITER"] < values_of(data, CPU, **few)["SOLVER.MAX_ITER"]


@pytest.mark.parametrize("machine", [CPU, GPU], ids=["CPU", "GPU"])
@pytest.mark.parametrize("kind", DATA)
def test_every_object_is_on_a_level(kind: str, machine: Machine) -> None:
    data = DATA[kind]
    values = values_of(data, machine)
    ranges = values["MODEL.SOLOV2.FPN_SCALE_RANGES"]
    window = values.get("TEST.TILE.SIZE", 0)
    edges = values["INPUT.MIN_SIZE_TRAIN"]
    for edge in (edges[0], edges[-1]):
        sides = resized(data, edge, values["INPUT.MAX_SIZE_TRAIN"], window)
        held = [any(low <= side <= high for low, high in ranges) for side in sides]
        assert sum(held) >= 0.99 * len(held)


@pytest.mark.parametrize("machine", [CPU, GPU], ids=["CPU", "GPU"])
@pytest.mark.parametrize("kind", DATA)
@pytest.mark.parametrize("method", METHODS)
def test_every_config_passes_the_checks_and_says_what_was_chosen(
    method: str, kind: str, machine: Machine, tmp_path: Path
) -> None:
    num_val = 0 if kind == "one image" else 10
    request = request_of(method, num_val=num_val)
    base = base_of(method, machine)
    choices = choose(DATA[kind], machine, request, base, 1.5)
    path = tmp_path / "my.yaml"
    write(as_yaml(base_path(base.config, path), choices, "head"), path)
    cfg = setup_cfg(str(path))
    assert method == cfg.MODEL.META_ARCHITECTURE
    for choice in choices:
        value = get_key(cfg, choice.key)
        assert plain(value) == plain(choice.value), choice.key


def plain(value: Any) -> Any:
    return [plain(part) for part in value] if isinstance(value, list | tuple) else value


@pytest.mark.parametrize(
    ("method", "key"),
    [
        ("SparseInst", "MODEL.SPARSE_INST.DECODER.NUM_MASKS"),
        ("MaskFormer", "MODEL.MASK_FORMER.NUM_OBJECT_QUERIES"),
        ("SOLOv2", "TEST.DETECTIONS_PER_IMAGE"),
    ],
)
@pytest.mark.parametrize("kind", DATA)
def test_the_fullest_image_has_room(method: str, key: str, kind: str) -> None:
    most = max(DATA[kind].object_images.count(image) for image in range(DATA[kind].num_images))
    assert values_of(DATA[kind], method=method)[key] > most


@pytest.mark.parametrize(
    ("method", "keys"),
    [
        ("SparseInst", ["MODEL.SPARSE_INST.DECODER.NUM_MASKS", "TEST.DETECTIONS_PER_IMAGE"]),
        ("MaskFormer", ["MODEL.MASK_FORMER.NUM_OBJECT_QUERIES", "TEST.DETECTIONS_PER_IMAGE"]),
        ("SOLOv2", ["TEST.DETECTIONS_PER_IMAGE", "MODEL.SOLOV2.NMS_PRE"]),
        ("InstanceFCN", ["MODEL.INSTANCE_FCN.MAX_PER_IMG"]),
    ],
)
def test_a_fuller_validation_image_has_room(method: str, keys: list[str]) -> None:
    request = replace(request_of(method), most_val=1100)
    choices = choose(DATA["usual"], CPU, request, base_of(method, CPU), 1.5)
    values = {choice.key: choice.value for choice in choices}
    assert all(values[key] > 1100 for key in keys)
    assert (method == "InstanceFCN") == ("TEST.DETECTIONS_PER_IMAGE" not in values)


def test_pedestrians_get_the_measured_recipe() -> None:
    """Sizes and counts of PennFudan; configs/benchmarks/Base-PennFudan.yaml."""
    values = values_of(DATA["usual"], seconds=1.47)
    assert values["INPUT.MIN_SIZE_TRAIN"] == [256, 288, 320, 352]
    assert values["INPUT.MIN_SIZE_TEST"] == 320
    ranges = [[1, 56], [28, 112], [56, 224], [112, 448], [224, 896]]
    assert values["MODEL.SOLOV2.FPN_SCALE_RANGES"] == ranges
    assert values["SOLVER.IMS_PER_BATCH"] == 4
    assert values["SOLVER.BASE_LR"] == 5e-4
    assert values["SOLVER.BACKBONE_MULTIPLIER"] == 0.2
    assert values["SOLVER.CLIP_GRADIENTS.CLIP_VALUE"] == 10
    assert values["SOLVER.WARMUP_ITERS"] == 100
    assert 700 <= values["SOLVER.MAX_ITER"] <= 20 * 60 / 1.47


def test_small_objects_enlarge_images_and_then_cut_windows() -> None:
    medium = described(50, (480, 640), [(10.0, 10.0)])
    enlarged = values_of(medium)
    assert enlarged["INPUT.MIN_SIZE_TEST"] * 10 / 480 >= 2 * 4 - 0.5
    assert "TEST.TILE.SIZE" not in enlarged
    values = values_of(DATA["4,000 pixels"])
    window = values["TEST.TILE.SIZE"]
    assert values["INPUT.CROP.AROUND_OBJECTS"] == [window, window]
    assert 30 * values["INPUT.MIN_SIZE_TEST"] / window >= 2 * 4 - 0.5
    assert 0 < values["TEST.TILE.OVERLAP"] < window


def test_less_time_or_memory_makes_smaller_inputs() -> None:
    def pixels(machine: Machine, minutes: float) -> int:
        values = values_of(DATA["tiny"], machine, minutes=minutes)
        return values["INPUT.MIN_SIZE_TEST"] * values["SOLVER.IMS_PER_BATCH"]

    assert pixels(CPU, 20) > pixels(CPU, 5)
    assert pixels(Machine(16, 64), 60) > pixels(Machine(16, 4), 60)


@pytest.mark.parametrize("minutes", [1, 5, 20, 600])
@pytest.mark.parametrize("seconds", [0.05, 1.5, 20])
@pytest.mark.parametrize("num_val", [0, 34, 5000])
def test_training_and_evaluations_fit_the_minutes(
    minutes: float, seconds: float, num_val: int
) -> None:
    values = values_of(DATA["usual"], seconds=seconds, minutes=minutes, num_val=num_val)
    iterations, period = values["SOLVER.MAX_ITER"], values["TEST.EVAL_PERIOD"]
    assert iterations >= 10
    assert values["SOLVER.LR_SCHEDULER_NAME"] == "WarmupCosineLR"
    assert values["SOLVER.WARMUP_ITERS"] < iterations
    if iterations > 10:
        assert iterations * seconds <= 60 * minutes
    # A run that is killed loses a quarter at most, and no more than with detectron2's period.
    assert values["SOLVER.CHECKPOINT_PERIOD"] == min(5000, -(-iterations // 4))
    if not num_val:
        assert period == 0
        assert values["TEST.BEST_METRIC"] == ""
        return
    evaluations = -(-iterations // period)
    assert 1 <= evaluations <= 4
    inference = evaluations * num_val * seconds / 4 / 3
    assert evaluations == 1 or inference <= 60 * minutes / 5


def test_objects_are_pasted_where_images_are_seen_often() -> None:
    key = "INPUT.COPY_PASTE.ENABLED"
    usual = DATA["usual"]  # 136 images, 4 per iteration
    often, seldom = (values_of(usual, seconds=seconds) for seconds in (0.5, 10))
    assert often["SOLVER.MAX_ITER"] * 4 > 20 * 136 > seldom["SOLVER.MAX_ITER"] * 4
    assert often[key] is True
    assert key not in seldom
    assert key not in values_of(DATA["one image"], seconds=0.5)  # there is no other image
    # 500 iterations, with which it was measured, are 14.7 times.
    assert [bool(copy_paste_choices(usual, count, 4)) for count in (470, 500)] == [False, True]


def test_rare_classes_are_repeated() -> None:
    assert sampler_choices(DATA["usual"]) == []
    assert sampler_choices(described(9, (64, 64), [(9.0, 9.0)], {"a": 9, "b": 0})) == []
    even = described(90, (64, 64), [(9.0, 9.0)], {"a": 60, "b": 45, "c": 30})
    assert sampler_choices(even) == []
    rare = described(90, (64, 64), [(9.0, 9.0)], {"a": 60, "b": 45, "c": 3, "none": 0})
    values = {choice.key: choice.value for choice in sampler_choices(rare)}
    assert values == {
        "DATALOADER.SAMPLER_TRAIN": "RepeatFactorTrainingSampler",
        "DATALOADER.REPEAT_THRESHOLD": 0.5,
    }
    assert values_of(DATA["1,203 classes"])["DATALOADER.REPEAT_THRESHOLD"] == 0.01


def test_images_without_objects_are_trained_on_unless_they_are_most() -> None:
    def chosen(images: int, filled: int) -> Any:
        data = Fingerprint(
            ((64, 64),) * images, ((9.0, 9.0),) * filled, tuple(range(filled)), {"a": filled}
        )
        return values_of(data).get("DATALOADER.FILTER_EMPTY_ANNOTATIONS")

    assert chosen(10, 10) is None
    assert chosen(10, 8) is False
    assert chosen(10, 2) is None


def test_trained_weights_keep_their_shapes_and_learn_slower() -> None:
    for method in METHODS:
        request = request_of(method)
        trained = Base(Path("config.yaml"), (), is_trained=True)
        choices = choose(DATA["crowd"], CPU, request, trained, 1.5)
        values = {choice.key: choice.value for choice in choices}
        assert not [key for key in values if key.endswith(("NUM_GRIDS", "MASKS", "QUERIES"))]
        assert not [key for key in values if key.endswith(("IN_FEATURE", "WINDOW_SIZE"))]
        assert values["SOLVER.BASE_LR"] == 1e-4


def test_the_same_data_and_machine_give_the_same_text() -> None:
    def text() -> str:
        base = base_of("SOLOv2", CPU)
        choices = choose(DATA["1,203 classes"], CPU, request_of(), base, 1.5)
        return as_yaml("base.yaml", choices, "head")

    assert text() == text()
    assert 25 <= len(text().splitlines()) <= 50


def test_the_size_follows_from_no_timing() -> None:
    size = size_of(DATA["usual"], CPU, request_of())
    assert size.test_edge == values_of(DATA["usual"], seconds=9.0)["INPUT.MIN_SIZE_TEST"]


@pytest.mark.parametrize(
    ("kind", "machine", "expected"),
    [
        ("usual", CPU, 82_000_000),  # 136 x 400 x 500 x 3 bytes
        ("4,000 pixels", GPU, None),  # windows of the files are read
        ("1,203 classes", CPU, None),  # 1.8 GB of 16
        ("1,203 classes", GPU, 1_844_000_000),
    ],
)
def test_images_that_take_a_small_part_of_the_memory_are_kept(
    kind: str, machine: Machine, expected: int | None
) -> None:
    assert values_of(DATA[kind], machine).get("DATALOADER.CACHE_BYTES") == expected


# Minutes: by the estimate of 1.5 s for 4 images of 320 x 400, 400 and 800 iterations on two cores.
SHORT, LONG = 10, 20


@pytest.mark.parametrize("method", ["SOLO", "DecoupledSOLO", "SOLOv2"])
def test_a_short_training_is_of_a_thinner_model_with_larger_steps(method: str) -> None:
    prefix = METHODS[method].num_classes_key.rpartition(".")[0]
    short = values_of(DATA["usual"], method=method, minutes=SHORT)
    long = values_of(DATA["usual"], method=method, minutes=LONG)
    assert short["MODEL.FPN.OUT_CHANNELS"] == short[f"{prefix}.INSTANCE_CHANNELS"] == 64
    assert short[f"{prefix}.NUM_GRIDS"] == [32, 28, 20, 14, 10]
    assert short[f"{prefix}.SIGMA"] == 0.4
    assert short["MODEL.TIMM.FREEZE"] == ["conv_stem", "bn1", "blocks.0", "blocks.1"]
    assert short["SOLVER.BASE_LR"] == pytest.approx(1.5e-3)
    assert long["SOLVER.BASE_LR"] == pytest.approx(5e-4)
    assert long["MODEL.TIMM.FREEZE"] == []
    assert {"MODEL.FPN.OUT_CHANNELS", f"{prefix}.SIGMA", f"{prefix}.NUM_GRIDS"}.isdisjoint(long)
    if method == "SOLOv2":
        keys = ("MASK_CHANNELS", "NUM_MASKS", "NUM_KERNELS")
        assert [short[f"{prefix}.{key}"] for key in keys] == [32] * 3


def test_the_model_depends_on_the_machine_but_not_on_its_momentary_speed() -> None:
    key = "MODEL.FPN.OUT_CHANNELS"
    for seconds in (0.1, 30.0):
        assert key in values_of(DATA["usual"], minutes=SHORT, seconds=seconds)
        assert key not in values_of(DATA["usual"], minutes=LONG, seconds=seconds)
    assert key not in values_of(DATA["usual"], replace(CPU, cores=8), minutes=SHORT)
    assert key not in values_of(DATA["usual"], GPU, minutes=1)


@pytest.mark.parametrize(("capability", "is_thin"), [("AVX2", True), ("AVX512", False)])
def test_a_cpu_with_avx2_alone_is_half_as_fast(
    monkeypatch: pytest.MonkeyPatch, capability: str, is_thin: bool
) -> None:
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: capability)
    machine = replace(CPU, avx2=this_machine().avx2)
    assert ("with AVX2 alone" in str(machine)) == is_thin
    assert ("MODEL.FPN.OUT_CHANNELS" in values_of(DATA["usual"], machine, minutes=LONG)) == is_thin
    # The images stay as large: smaller ones, in more iterations, were no better.
    key = "INPUT.MIN_SIZE_TRAIN"
    assert values_of(DATA["usual"], machine)[key] == values_of(DATA["usual"], CPU)[key]
    assert "MODEL.FPN.OUT_CHANNELS" not in values_of(DATA["usual"], machine, minutes=2 * LONG)


def test_what_is_thinner_only_where_it_was_measured_or_may_be() -> None:
    for method in ("SparseInst", "MaskFormer", "InstanceFCN"):
        values = values_of(DATA["usual"], method=method, minutes=SHORT)
        assert values["SOLVER.BASE_LR"] == pytest.approx(5e-4)
        assert "MODEL.FPN.OUT_CHANNELS" not in values
    trained = Base(Path("/of/the/run/config.yaml"), (), is_trained=True)
    request = request_of(minutes=SHORT)
    keys = {choice.key for choice in choose(DATA["usual"], CPU, request, trained, 1.5)}
    assert "MODEL.FPN.OUT_CHANNELS" not in keys
    # A crowd keeps its grids, and a stem for other channels is trained.
    crowd = values_of(DATA["crowd"], minutes=SHORT)
    assert crowd["MODEL.FPN.OUT_CHANNELS"] == 64
    assert crowd.get("MODEL.SOLOV2.NUM_GRIDS", [40])[0] >= 40
    deep = replace(DATA["usual"], channels=(5,))
    assert values_of(deep, minutes=SHORT)["MODEL.TIMM.FREEZE"] == []
