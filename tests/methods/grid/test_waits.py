"""SOLO, Decoupled SOLO and SOLOv2 from features to results: how often the host waits."""

import pytest
import torch
from detectron2.structures import Instances
from torch import Tensor, nn

from solo_family.methods.grid import decoded_masks, level_masks
from solo_family.methods.grid.category_branch import cell_scores_of
from solo_family.methods.grid.decoded_masks import chunk_length
from solo_family.methods.grid.instances import select_images
from solo_family.modeling import order
from solo_family.ops import gpu_kernels

from ...conftest import eager_to_find, picture, tiny_model
from ...waits import count_waits

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SLOW_INTERPRETED = [pytest.mark.slow] if DEVICE == "cpu" else []
LIGHT = ["MODEL.SOLO.HEAD_NAME", "DecoupledSOLOLightHead"]
WAITS = {"SOLOv2": 1, "SOLO": 2, "DecoupledSOLO": 2, "Light": 2}
SIZE = (64, 96)
OUTPUTS = [(64, 96), (50, 70), (100, 140)]


def make(name: str, found: bool = True) -> nn.Module:
    method, opts = ("DecoupledSOLO", LIGHT) if name == "Light" else (name, [])
    return eager_to_find(tiny_model(method, opts=opts), found).to(DEVICE)


@pytest.fixture(autouse=True)
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU's TensorFloat-32 gives an image other features in a batch than alone."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@torch.no_grad()
def features_of(model: nn.Module, images: int = 3) -> dict[str, Tensor]:
    pictures = [picture(*SIZE, seed=seed)["image"] for seed in range(images)]
    return model.backbone(model.preprocess(pictures).tensor)


@torch.no_grad()
def predict(model: nn.Module, features: dict[str, Tensor]) -> list[Instances]:
    images = len(features["p2"])
    results = model.predict(features, SIZE, [SIZE] * images, OUTPUTS[:images])
    return [result["instances"] for result in results]


def force(monkeypatch: pytest.MonkeyPatch, at_once: bool) -> None:
    monkeypatch.setattr(order, "waits", lambda _: at_once)


def assert_same(found: list[Instances], expected: list[Instances]) -> None:
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.scores, other.scores, rtol=0, atol=1e-6)
        assert torch.equal(one.pred_classes, other.pred_classes)
        # Rounding may move a pixel across the masks' threshold.
        assert (one.pred_masks != other.pred_masks).float().mean() < 1e-4
        assert torch.equal(one.pred_masks.flatten(1).any(1), other.pred_masks.flatten(1).any(1))


@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize("name", WAITS)
def test_the_host_waits_for_the_number_of_results_and_candidates(
    name: str, images: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many images there are."""
    model = make(name)
    features = features_of(model, images)
    force(monkeypatch, at_once=False)
    in_chunks = predict(model, features)
    force(monkeypatch, at_once=True)
    predict(model, features)
    with count_waits(DEVICE) as waits:
        found = predict(model, features)
    assert waits.total == WAITS[name], waits.where
    assert all(len(instances) > 10 for instances in found)
    assert_same(found, in_chunks)


@pytest.mark.parametrize("name", WAITS)
def test_nothing_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make(name, found=False)
    force(monkeypatch, at_once=True)
    found = predict(model, features_of(model))
    for instances, size in zip(found, OUTPUTS):
        assert len(instances) == 0
        assert instances.pred_masks.shape == (0, *size)


@pytest.mark.parametrize("name", WAITS)
def test_one_image_is_as_in_a_batch(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the way that the benchmark of candidates takes."""
    model = make(name)
    features = features_of(model)
    force(monkeypatch, at_once=True)
    expected = predict(model, features)
    with torch.no_grad():
        for index, size in enumerate(OUTPUTS):
            alone = {name: level[index : index + 1] for name, level in features.items()}
            outputs = model.run_head(alone, SIZE)
            scores = cell_scores_of(outputs.category_logits)
            sizes = (model.mask_size(SIZE), SIZE, [SIZE], [size])
            found = select_images(model.selection(SIZE), outputs, scores, *sizes)
            assert_same(list(found), [expected[index]])


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=SLOW_INTERPRETED) for name in ("SOLOv2", "SOLO", "DecoupledSOLO")],
)
@torch.no_grad()
def test_with_the_kernels_of_a_gpu(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In Triton's interpreter where there is no GPU, and so with few cells and a small picture."""
    key = "SOLOV2" if name == "SOLOv2" else "SOLO"
    model = tiny_model(name, opts=[f"MODEL.{key}.NUM_GRIDS", [2, 2, 1, 1, 1]])
    model = eager_to_find(model).to(DEVICE)
    features = model.backbone(model.preprocess([picture(32, 32)["image"]]).tensor)
    arguments = (features, (32, 32), [(32, 32)], [(16, 24)])
    force(monkeypatch, at_once=True)
    monkeypatch.setattr(gpu_kernels, "runs", lambda *_: False)
    expected = model.predict(*arguments)[0]["instances"]
    assert len(expected) > 3
    monkeypatch.setattr(gpu_kernels, "runs", lambda kernel, _: kernel in gpu_kernels.TRITON)
    assert_same([model.predict(*arguments)[0]["instances"]], [expected])


def test_a_gpu_has_more_masks_in_memory_than_a_cpu() -> None:
    """At 200x336, 268,800 bytes each."""
    assert chunk_length((200, 336), torch.device("cpu")) == 62
    assert chunk_length((200, 336), torch.device("cuda")) == 998
    assert chunk_length((20000, 20000), torch.device("cuda")) == 1


@pytest.mark.parametrize("name", ["SOLO", "DecoupledSOLO"])
def test_masks_are_made_a_few_at_a_time(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make(name)
    features = features_of(model)
    force(monkeypatch, at_once=True)
    expected = predict(model, features)
    asked: list[int] = []
    pack = level_masks.pack_masks

    def packing(masks: Tensor, threshold: float) -> object:
        asked.append(len(masks))
        return pack(masks, threshold)

    monkeypatch.setattr(level_masks, "pack_masks", packing)
    for name in ("_CHUNK_BYTES", "_CHUNK_BYTES_GPU"):
        monkeypatch.setattr(decoded_masks, name, 7 * 16 * 24 * 4)
    assert_same(predict(model, features), expected)
    assert max(asked) == 7
    assert sum(asked) > 30


@pytest.mark.parametrize("name", WAITS)
def test_half_precision(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Autocast doesn't reach into the selection, nor stay switched off after it."""
    model = make(name)
    force(monkeypatch, at_once=True)
    features = features_of(model)
    with torch.autocast(DEVICE, dtype=torch.bfloat16):
        found = predict(model, features)
        assert torch.is_autocast_enabled(DEVICE)
        force(monkeypatch, at_once=False)
        expected = predict(model, features)
    assert_same(found, expected)
    assert all(len(instances) for instances in found)


def test_the_cells_are_those_of_the_levels() -> None:
    model = tiny_model("SOLO")
    sides, strides = (12, 10, 8, 6, 4), (8, 8, 16, 32, 32)
    expected = [stride for side, stride in zip(sides, strides) for _ in range(side * side)]
    grid = model.grid((64, 96))
    assert grid.strides.tolist() == expected
    assert grid.level_ends.tolist() == [144, 244, 308, 344, 360]


def test_counting_by_level() -> None:
    grid = tiny_model("SOLO").grid((64, 96))
    cells = torch.tensor([[0, 143, 144, 307, 359], [359, 359, 0, 0, 0]])
    counted = torch.tensor([[True, True, True, True, True], [True, False, False, True, False]])
    assert grid.count_by_level(cells, counted).tolist() == [[2, 3, 4, 4, 5], [1, 1, 1, 1, 2]]
