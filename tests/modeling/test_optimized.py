"""Models optimised for inference against the models that they were made from."""

import copy
import logging
import pickle
from typing import Any

import pytest
import timm
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.structures import Instances
from torch import Tensor, nn

from solo_family import METHODS
from solo_family.class_maps import without_class_maps
from solo_family.config import get_cfg
from solo_family.modeling import packed_conv, precision
from solo_family.modeling.fast_group_norm import FastGroupNorm, make_group_norms_fast
from solo_family.modeling.folding import fold_observed_norms
from solo_family.modeling.inference import inference_model, prepare_for_inference
from solo_family.modeling.layers.conv_tower import GroupNorm
from solo_family.modeling.norm_pairs import is_norm
from solo_family.modeling.packed_conv import PackedConv2d, pack_convolutions, packing_works

from ..conftest import picture
from .test_inference import make

CPU = torch.device("cpu")
packs = pytest.mark.skipif(
    not packing_works(torch.float32, CPU), reason="this torch or CPU has no oneDNN"
)


def iou(a: Tensor, b: Tensor) -> float:
    return float((a & b).sum() / (a | b).sum()) if (a | b).any() else 1.0


@pytest.mark.parametrize("method", METHODS)
def test_finds_the_same(method: str) -> None:
    model, one = make(method), picture(seed=2)
    (expected,) = model([one])
    optimised = prepare_for_inference(model, optimize=True)
    assert not [part for part in optimised.modules() if is_norm(part)]
    (found,) = optimised([one])
    instances, others = found["instances"], expected["instances"]
    assert len(others) > 0
    torch.testing.assert_close(instances.scores, others.scores, rtol=0, atol=1e-5)
    assert torch.equal(instances.pred_classes, others.pred_classes)
    assert min(map(iou, instances.pred_masks, others.pred_masks)) > 0.999
    if "sem_seg" in expected:
        torch.testing.assert_close(found["sem_seg"], expected["sem_seg"], rtol=1e-5, atol=1e-5)
        same = found["panoptic_seg"][0] == expected["panoptic_seg"][0]
        assert same.float().mean() > 0.999
    # Users may go on with results as with any tensors.
    instances.scores.mul_(2)
    instances.pred_masks[:] = False


@packs
def test_on_a_cpu_all_convolutions_are_packed() -> None:
    optimised = prepare_for_inference(make("SOLOv2"), optimize=True)
    convolutions = [part for part in optimised.modules() if isinstance(part, nn.Conv2d)]
    assert all(isinstance(conv, PackedConv2d) for conv in convolutions)
    one = picture(seed=1)
    (expected,) = optimised([one])
    for same in (copy.deepcopy(optimised), pickle.loads(pickle.dumps(optimised))):
        assert torch.equal(same([one])[0]["instances"].scores, expected["instances"].scores)
    with pytest.raises(RuntimeError, match="prepared for inference on a CPU; it can't be moved"):
        optimised.to("meta")
    for change in (optimised.half, optimised.bfloat16, optimised.double):
        with pytest.raises(RuntimeError, match=r"weights of torch\.float32, which can't become"):
            change()
    optimised.float()
    assert torch.equal(optimised([one])[0]["instances"].scores, expected["instances"].scores)


@packs
@torch.no_grad()
def test_packed_convolutions_convolve() -> None:
    torch.manual_seed(0)
    parts = nn.Sequential(
        nn.Conv2d(6, 8, 3, stride=2, padding=1, bias=False),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=4),
        nn.Conv2d(8, 4, 1),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(4, 4, 3, padding="same"),
    )
    x = torch.randn(2, 6, 9, 13)
    expected, weight = parts(x), parts[2].weight.clone()
    pack_convolutions(parts)
    torch.testing.assert_close(parts(x), expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(parts[2].weight, weight)
    assert [type(part).__name__ for part in parts] == [
        *("PackedConv2d", "Identity", "PackedConv2d", "PackedConv2d", "Identity"),
        *("Conv2d", "Conv2d"),
    ]


@packs
@pytest.mark.parametrize("most", [0, 10**9], ids=["packed", "product"])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("bias", [True, False])
@torch.no_grad()
def test_pointwise_convolutions_convolve_both_ways(
    most: int, stride: int, bias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed_conv, "_FEW_PIXELS", most)
    torch.manual_seed(0)
    conv = nn.Conv2d(6, 8, 1, stride=stride, bias=bias)
    x = torch.randn(2, 6, 9, 13)
    expected, weight = conv(x), conv.weight.detach().clone()
    other = torch.randn_like(expected)
    packed = PackedConv2d.take(conv)
    for given in (x, x.to(memory_format=torch.channels_last)):
        for same in (packed, copy.deepcopy(packed), pickle.loads(pickle.dumps(packed))):
            torch.testing.assert_close(same(given), expected)
            assert same(given).is_contiguous(memory_format=torch.channels_last)
            summed = same.add_to_and_relu(other.clone(), given)
            torch.testing.assert_close(summed, (other + expected).relu())
    packed.attribute = "relu"
    torch.testing.assert_close(packed(x), expected.relu())
    packed.attribute, packed.scalars = "hardtanh", (0.0, 0.5)
    torch.testing.assert_close(packed(x), expected.clamp(0, 0.5))
    assert torch.equal(packed.weight, weight)
    assert (packed.packed.packed is None) == (most > 0)


@packs
@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("bias", [True, False])
@torch.no_grad()
def test_wide_3x3_convolutions_of_large_maps_are_computed_in_tiles(
    bias: bool, padding: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    monkeypatch.setattr(packed_conv, "_TILED_CHANNELS", 8)
    monkeypatch.setattr(packed_conv, "_FEWEST_TILES", 12)
    torch.manual_seed(0)
    conv = nn.Conv2d(8, 8, 3, padding=padding, bias=bias)
    large, small = torch.randn(2, 8, 13, 18), torch.randn(2, 8, 9, 11)
    weight, expected, of_small = conv.weight.detach().clone(), conv(large), conv(small)
    other = torch.randn_like(expected)
    packed = PackedConv2d.take(conv)
    for same in (packed, copy.deepcopy(packed), pickle.loads(pickle.dumps(packed))):
        torch.testing.assert_close(same(large), expected, rtol=1e-5, atol=1e-5)
        assert same.packed.transformed is not None
        assert same.packed.packed is None  # two copies would be a waste of memory
        assert torch.equal(same(large)[1:], same(large[1:]))
        summed = same.add_to_and_relu(other.clone(), large)
        torch.testing.assert_close(summed, (other + expected).relu(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(packed(small), of_small, rtol=1e-5, atol=1e-5)
    assert packed.packed.packed is not None
    packed.attribute = "relu"
    torch.testing.assert_close(packed(large), expected.relu(), rtol=1e-5, atol=1e-5)
    assert torch.equal(packed.weight, weight)


@packs
def test_tiles_are_for_float32_without_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    monkeypatch.setattr(packed_conv, "_TILED_CHANNELS", 8)
    torch.manual_seed(0)
    conv, x = nn.Conv2d(64, 64, 3, padding=1), torch.randn(1, 64, 32, 32)
    expected = conv(x).detach()
    packed = PackedConv2d.take(conv)
    # As `predictor.model(inputs)`, which detectron2 allows.
    torch.testing.assert_close(packed(x).detach(), expected, rtol=1e-5, atol=1e-5)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(packed(x), expected, rtol=1e-5, atol=1e-5)
    assert packed.packed.transformed is None
    with torch.no_grad():
        packed(x)
    assert packed.packed.transformed is not None


@packs
def test_which_convolutions_are_computed_in_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    wide = [nn.Conv2d(256, 256, 3, padding=1), nn.Conv2d(512, 256, 3)]
    others = [
        nn.Conv2d(256, 255, 3, padding=1),
        nn.Conv2d(256, 256, 3, padding=1, stride=2),
        nn.Conv2d(256, 256, 3, padding=2, dilation=2),
        nn.Conv2d(256, 256, 5, padding=2),
        nn.Conv2d(256, 256, 1),
    ]
    assert all(PackedConv2d.take(conv)._has_tiles for conv in wide)
    assert not any(PackedConv2d.take(conv)._has_tiles for conv in others)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT")
    assert not PackedConv2d.take(nn.Conv2d(256, 256, 3))._has_tiles


@packs
@torch.no_grad()
def test_weights_are_packed_anew_for_maps_of_one_size_with_the_same_results() -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(8, 6, 3, padding=1)
    weight = conv.weight.detach().clone()
    packed = PackedConv2d.take(conv)
    maps = [torch.randn(1, 8, side, side) for side in (5, 9)]
    first, expected = packed.packed.packed, [packed(x) for x in maps]
    for _ in range(3):  # sizes that take turns
        assert all(torch.equal(packed(x), y) for x, y in zip(maps, expected))
        assert packed.packed.packed is first
    for x, y in zip(maps, expected):
        before = packed.packed.packed
        orders = []
        for _ in range(5):
            assert torch.equal(packed(x), y)
            orders.append(packed.packed.packed)
        assert orders[-1] is orders[-2] is not before  # once for each size
    assert torch.equal(packed.weight, weight)
    assert torch.equal(copy.deepcopy(packed)(maps[0]), expected[0])


@packs
@pytest.mark.parametrize("depth", [18, 50])
def test_features_are_not_overwritten_by_later_blocks(depth: int) -> None:
    """Blocks add to their inputs in place; those that are features, or the stem's, must stay."""
    opts = ["MODEL.RESNETS.DEPTH", depth]
    if depth == 18:
        # The stem has as many: the first block has no convolution in its shortcut.
        opts += ["MODEL.RESNETS.RES2_OUT_CHANNELS", 64, "MODEL.RESNETS.STEM_OUT_CHANNELS", 64]
    model = make("SOLOv2", opts)
    bottom_up = model.backbone.bottom_up
    bottom_up._out_features = ["stem", *bottom_up._out_features]
    optimised = prepare_for_inference(model, optimize=True)
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        expected, found = bottom_up(image), optimised.backbone.bottom_up(image)
    for name, feature in expected.items():
        torch.testing.assert_close(found[name], feature, rtol=1e-4, atol=1e-4)


# What remains: norms before convolutions, and beside them.
@pytest.mark.parametrize(
    ("name", "left"), [("resnet10t", 0), ("mobilenetv3_small_050", 0), ("repvgg_a0", 17)]
)
@torch.no_grad()
def test_norms_of_timm_s_backbones_are_folded(name: str, left: int) -> None:
    torch.manual_seed(0)
    model = timm.create_model(name, features_only=True).eval()
    for norm in filter(is_norm, model.modules()):
        for values in (norm.running_mean, norm.running_var, norm.weight, norm.bias):
            values.copy_(torch.rand(values.shape) + 0.3)
    image = torch.randn(1, 3, 96, 128)
    expected = model(image)
    fold_observed_norms(model, 3, 32)
    assert sum(map(is_norm, model.modules())) == left
    for feature, other in zip(model(image), expected):
        torch.testing.assert_close(feature, other, rtol=1e-4, atol=1e-4 * float(other.abs().max()))


@packs
@torch.no_grad()
def test_activations_of_folded_norms_are_joined_to_convolutions() -> None:
    torch.manual_seed(0)
    model = timm.create_model("tf_efficientnet_lite0", features_only=True).eval()
    for norm in filter(is_norm, model.modules()):
        # Such that a ReLU6 has something to cut, on both sides.
        norm.weight.copy_(torch.rand(norm.weight.shape))
        norm.bias.copy_(3 * torch.randn(norm.bias.shape))
    # Sides of several remainders, and hence paddings, in the convolutions that pad as TensorFlow.
    images = [torch.randn(1, 3, *size) for size in ((96, 128), (97, 131), (64, 90), (35, 2))]
    expected = [model(image) for image in images]
    fold_observed_norms(model, 3, 32)
    pack_convolutions(model)
    attributes = [part.attribute for part in model.modules() if isinstance(part, PackedConv2d)]
    assert (attributes.count("hardtanh"), attributes.count("none")) == (32, 16)
    for same in (model, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        for image, features in zip(images, expected):
            for feature, other in zip(same(image), features, strict=True):
                limit = 1e-4 * float(other.abs().max())
                torch.testing.assert_close(feature, other, rtol=1e-4, atol=limit)


@pytest.mark.parametrize("size", [(1, 1), (5, 7), (31, 33), (40, 40)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_group_norms_keep_their_results_and_the_order_in_memory(
    size: tuple[int, int], dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.GroupNorm(4, 8), GroupNorm(8, 8)).to(dtype).requires_grad_(False)
    x = (3 * torch.randn(2, 8, *size, generator=generator) + 1).to(dtype)
    for given in (x, x.to(memory_format=torch.channels_last), x[:0]):
        for layer in copy.deepcopy(model):
            expected = torch.group_norm(given, layer.num_groups, layer.weight, layer.bias)
            fast = nn.Sequential(layer)
            make_group_norms_fast(fast)
            assert type(fast[0]) is FastGroupNorm
            found = fast(given)
            assert found.stride() == expected.stride()
            # bfloat16's last digit.
            tolerance = 1e-5 if dtype == torch.float32 else 2e-2
            torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


class _Shared(nn.Module):
    """Convolutions whose outputs are read twice, or whose norms read others' outputs, too."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(3, 3, 1) for _ in range(4))
        self.norms = nn.ModuleList(nn.BatchNorm2d(3) for _ in range(4))

    def forward(self, x: Tensor) -> list[Tensor]:
        one, two, three = (conv(x) for conv in self.convs[:3])
        both = [self.norms[0](one) + one, self.norms[1](two) + self.norms[1](three)]
        feature = self.convs[3](x)
        return [*both, feature, self.norms[2](feature), self.norms[3](x)]


@torch.no_grad()
def test_norms_whose_inputs_others_read_stay() -> None:
    torch.manual_seed(0)
    model = _Shared().eval()
    for norm in model.norms:
        norm.running_mean.uniform_(-1, 1)
    image = torch.randn(1, 3, 64, 64)
    expected = model(image)
    fold_observed_norms(model, 3, 1)
    assert sum(map(is_norm, model.modules())) == 4
    for feature, other in zip(model(image), expected, strict=True):
        assert torch.equal(feature, other)


@pytest.mark.parametrize("options", [{"optimize": True}, {"precision": "bfloat16"}])
def test_a_prepared_model_is_neither_saved_nor_trained(options: dict[str, Any], tmp_path) -> None:
    model = make("SparseInst")
    weights = model.state_dict()
    prepared = prepare_for_inference(model, **options)
    for attempt in (
        prepared.train,
        prepared.state_dict,
        prepared.backbone.state_dict,
        lambda: prepared.load_state_dict(weights),
        lambda: DetectionCheckpointer(prepared, str(tmp_path)).save("model"),
    ):
        with pytest.raises(RuntimeError, match="was prepared for inference"):
            attempt()
    prepared.eval()
    assert not prepared.training
    model.train().load_state_dict(weights)


def choose(model: nn.Module, monkeypatch: pytest.MonkeyPatch, reason: str = "") -> Any:
    cfg = get_cfg()
    cfg.MODEL.INFERENCE.PRECISION = "auto"
    monkeypatch.setattr(precision, "why_not_bfloat16", lambda device: reason)
    monkeypatch.setattr("solo_family.modeling.inference.why_not_bfloat16", lambda device: reason)
    return inference_model(model, cfg)


@pytest.mark.parametrize("agrees", [True, False])
def test_auto_is_bfloat16_if_the_first_image_with_objects_agrees(
    agrees: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = make("SparseInst")
    chosen = choose(model, monkeypatch)
    difference = "" if agrees else "only 3% of the instances are the same"
    monkeypatch.setattr(precision, "differs", lambda expected, found: difference)
    half = prepare_for_inference(model, precision="bfloat16", optimize=True)
    batch = [picture(seed=seed) for seed in (1, 2)]
    with caplog.at_level(logging.INFO, "solo_family"):
        found = chosen(batch)
    assert len(caplog.messages) == 1
    assert (difference or "bfloat16: the first image agrees") in caplog.messages[0]
    assert chosen.first_inference is None
    assert chosen.weight_dtype == (torch.bfloat16 if agrees else torch.float32)
    reference = half if agrees else prepare_for_inference(model, optimize=True)
    for result, one in zip(found, batch, strict=True):
        (expected,) = reference([one])
        assert torch.equal(result["instances"].scores, expected["instances"].scores)
    chosen(batch)
    assert len(caplog.messages) == 1


@pytest.mark.parametrize("agrees", [True, False])
def test_auto_is_the_same_whoever_reads_the_scores_of_every_class(
    agrees: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`demo` without them would predict with another precision than `Predictor`, which has them."""
    chosen = choose(make("MaskFormer"), monkeypatch)
    compared: list[set[str]] = []

    def differ(expected: dict[str, Any], found: dict[str, Any]) -> str:
        compared.extend([set(expected), set(found)])
        return "" if agrees else "only 3% of the pixels have the same class"

    monkeypatch.setattr(precision, "differs", differ)
    with without_class_maps():
        results = chosen([picture(seed=1), picture(seed=2)])
    everything = {"instances", "panoptic_seg", "sem_seg"}
    assert compared == [everything, everything]
    assert [set(result) for result in results] == [everything - {"sem_seg"}] * 2


def test_auto_is_float32_if_bfloat16_fails(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As where a layer of the user's own has no kernel for it."""
    chosen = choose(make("SparseInst"), monkeypatch)
    half = chosen.first_inference._half

    def fail(batch: Any) -> None:
        raise RuntimeError("\"mine\" not implemented for 'BFloat16'\nmore")

    monkeypatch.setattr(half, "inference", fail)
    with caplog.at_level(logging.INFO, "solo_family"):
        (found,) = chosen([picture(seed=1)])
    assert len(found["instances"])
    assert chosen.weight_dtype == torch.float32
    assert chosen.first_inference is None
    (message,) = caplog.messages
    assert "it ends in RuntimeError (\"mine\" not implemented for 'BFloat16')" in message


def test_auto_of_a_model_that_was_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    """The copy, which is none of its modules, comes after it; a copy elsewhere stands for that."""
    chosen = choose(make("SparseInst"), monkeypatch)
    half = chosen.first_inference._half
    moves: list[Any] = []
    half.pixel_mean = half.pixel_mean.to("meta")
    monkeypatch.setattr(half, "to", moves.append)
    monkeypatch.setattr(half, "inference", lambda batch: chosen.inference(batch))
    chosen([picture(seed=1)])
    assert moves == [CPU]


def test_auto_waits_for_an_image_with_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make("SparseInst")
    chosen = choose(model, monkeypatch)
    monkeypatch.setattr(precision, "is_empty", lambda result: True)
    chosen([picture()])
    assert chosen.first_inference is not None
    assert chosen.weight_dtype == torch.float32


def test_auto_is_float32_where_bfloat16_is_slow(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "solo_family"):
        chosen = choose(make("SparseInst"), monkeypatch, "this CPU has neither")
    assert chosen.first_inference is None
    assert caplog.messages == ["MODEL.INFERENCE.PRECISION auto is float32: this CPU has neither."]


@pytest.mark.parametrize(
    ("flags", "slow"), [("avx2 avx512f", True), ("avx512f avx512_bf16", False), ("amx_bf16", False)]
)
def test_which_cpus_are_fast_with_bfloat16(
    flags: str, slow: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "_cpu_flags", lambda: set(flags.split()))
    assert bool(precision.why_not_bfloat16(CPU)) == slow


def instances(scores: list[float], classes: list[int], columns: list[int]) -> dict[str, Any]:
    """Masks of 10 rows and some columns of 40, beginning at the given one."""
    masks = torch.zeros(len(scores), 10, 60, dtype=torch.bool)
    for mask, column in zip(masks, columns):
        mask[:, column : column + 20] = True
    fields = {"scores": torch.tensor(scores), "pred_classes": torch.tensor(classes)}
    return {"instances": Instances((10, 60), pred_masks=masks, **fields)}


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (([0.9, 0.8], [0, 1], [0, 20]), True),
        (([0.8, 0.9], [1, 0], [20, 0]), True),  # in another order
        (([0.85, 0.85, 0.1], [0, 1, 2], [0, 20, 40]), True),  # one more, which hardly counts
        (([0.9, 0.8], [0, 1], [0, 22]), False),
        (([0.9, 0.8], [0, 2], [0, 20]), False),
        (([0.9, 0.6], [0, 1], [0, 20]), False),
        (([0.9], [0], [0]), False),
        (([0.9, 0.8, 0.7], [0, 1, 2], [0, 20, 40]), False),
    ],
)
def test_which_instances_agree(other: tuple, same: bool) -> None:
    expected = instances([0.9, 0.8], [0, 1], [0, 20])
    assert (precision.differs(expected, instances(*other)) == "") == same


def test_which_pixels_agree() -> None:
    ids = torch.ones(10, 10, dtype=torch.int32)
    ids[:, 5:] = 2
    infos = [{"id": 1, "category_id": 7}, {"id": 2, "category_id": 3}]
    renumbered = 3 - ids, [{"id": 2, "category_id": 7}, {"id": 1, "category_id": 3}]
    expected = {"panoptic_seg": (ids, infos)}
    assert precision.differs(expected, {"panoptic_seg": renumbered}) == ""
    moved = ids.clone()
    moved[:, 4] = 2
    assert "90%" in precision.differs(expected, {"panoptic_seg": (moved, infos)})
    scores = torch.stack([ids == 1, ids == 2]).float()
    assert precision.differs({"sem_seg": scores}, {"sem_seg": 0.9 * scores}) == ""
    assert "0%" in precision.differs({"sem_seg": scores}, {"sem_seg": -scores})
